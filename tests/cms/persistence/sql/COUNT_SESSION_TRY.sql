UPDATE control_tokens
SET tries=(control_tokens.tries + 1::SMALLINT),
  ended_at=CASE WHEN (control_tokens.tries + 1::SMALLINT >= 5::INTEGER) THEN now() ELSE NULL END,
  end_reason=CASE
    WHEN (control_tokens.tries + 1::SMALLINT >= 5::INTEGER) THEN 'tries'::VARCHAR ELSE NULL
  END
WHERE control_tokens.session_hash = %(session_hash)s AND control_tokens.ended_at IS NULL
  AND control_tokens.session_expires_at > now()
  AND control_tokens.counter = (
    SELECT cards.counter FROM cards
    WHERE cards.issuer_id = control_tokens.issuer_id AND cards.card_id = control_tokens.card_id
  )
RETURNING 5::INTEGER - control_tokens.tries AS tries_left

UPDATE control_tokens
SET
  session_expires_at=least(
    now() + CASE
      WHEN (control_tokens.face = 'hosted'::VARCHAR) THEN '0:10:00'::interval
      WHEN (control_tokens.face = 'pincontrol'::VARCHAR) THEN '0:05:00'::interval
      ELSE '0:00:00'::interval
    END,
    control_tokens.session_ends_at
  )
WHERE control_tokens.session_hash = %(session_hash)s AND control_tokens.ended_at IS NULL
  AND control_tokens.session_expires_at > now()
  AND control_tokens.counter = (
    SELECT cards.counter FROM cards
    WHERE cards.issuer_id = control_tokens.issuer_id AND cards.card_id = control_tokens.card_id
  )
RETURNING
  CAST(
    floor(EXTRACT(epoch FROM control_tokens.session_expires_at - now())) AS INTEGER
  ) AS seconds_left

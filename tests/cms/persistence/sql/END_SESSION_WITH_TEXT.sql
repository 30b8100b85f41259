WITH
  consumed AS (
    UPDATE control_tokens SET ended_at=now(), end_reason='shown'::VARCHAR
    WHERE control_tokens.issuer_id = %(issuer_id)s::VARCHAR
      AND control_tokens.session_hash = %(session_hash)s AND control_tokens.ended_at IS NULL
      AND control_tokens.session_expires_at > now() AND control_tokens.tries < 5::INTEGER
      AND control_tokens.counter = (
        SELECT cards.counter FROM cards
        WHERE cards.issuer_id = %(issuer_id)s::VARCHAR AND cards.card_id = control_tokens.card_id
      )
      AND control_tokens.purpose = 'view'::VARCHAR AND control_tokens.face = %(face)s::VARCHAR
    RETURNING control_tokens.issuer_id, control_tokens.card_id, control_tokens.client_id,
      control_tokens.face, control_tokens.purpose, control_tokens.grant_id,
      control_tokens.sealed_grant, control_tokens.style, control_tokens.redirect_url,
      control_tokens.embedded, control_tokens.audit_user
  )
SELECT consumed.issuer_id, consumed.card_id, consumed.client_id, consumed.face, consumed.purpose,
  consumed.grant_id, consumed.sealed_grant, consumed.style, consumed.redirect_url,
  consumed.embedded, consumed.audit_user, cards.state, cards.pin_type, cards.counter,
  (
    SELECT coalesce(max(pin_changes.counter), 0::INTEGER) AS newest FROM pin_changes
    WHERE pin_changes.issuer_id = %(issuer_id)s::VARCHAR AND pin_changes.card_id = cards.card_id
  ) AS newest,
  cards.sealed_record, cards.sealed_pin, cards.last_four
FROM consumed
JOIN cards ON cards.issuer_id = %(issuer_id)s::VARCHAR AND cards.card_id = consumed.card_id

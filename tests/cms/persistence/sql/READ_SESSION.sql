SELECT control_tokens.issuer_id, control_tokens.card_id, control_tokens.client_id,
  control_tokens.face, control_tokens.purpose, control_tokens.grant_id, control_tokens.sealed_grant,
  control_tokens.style, control_tokens.redirect_url, control_tokens.embedded,
  control_tokens.audit_user
FROM control_tokens
WHERE control_tokens.issuer_id = %(issuer_id)s::VARCHAR
  AND control_tokens.session_hash = %(session_hash)s AND control_tokens.ended_at IS NULL
  AND control_tokens.session_expires_at > now() AND control_tokens.tries < 5::INTEGER
  AND control_tokens.counter = (
    SELECT cards.counter FROM cards
    WHERE cards.issuer_id = %(issuer_id)s::VARCHAR AND cards.card_id = control_tokens.card_id
  )
  AND control_tokens.purpose = %(purpose)s::VARCHAR

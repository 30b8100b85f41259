SELECT control_tokens.issuer_id, control_tokens.card_id, control_tokens.client_id,
  control_tokens.face, control_tokens.purpose, control_tokens.grant_id, control_tokens.sealed_grant,
  control_tokens.style, control_tokens.redirect_url, control_tokens.embedded,
  control_tokens.audit_user
FROM control_tokens
WHERE control_tokens.issuer_id = %(issuer_id)s::VARCHAR
  AND control_tokens.token_hash = %(token_hash)s

UPDATE control_tokens SET sealed_tzpk=NULL, ended_at=now(), end_reason='failed'::VARCHAR
WHERE control_tokens.issuer_id = %(issuer_id)s::VARCHAR
  AND control_tokens.token_hash = %(token_hash)s AND control_tokens.consumed_at IS NULL
  AND control_tokens.ended_at IS NULL AND control_tokens.expires_at > now()

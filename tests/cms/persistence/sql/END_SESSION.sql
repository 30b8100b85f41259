UPDATE control_tokens SET ended_at=now(), end_reason=%(end_reason)s::VARCHAR
WHERE control_tokens.issuer_id = %(issuer_id)s::VARCHAR
  AND control_tokens.session_hash = %(session_hash)s AND control_tokens.ended_at IS NULL
  AND control_tokens.session_expires_at > now()

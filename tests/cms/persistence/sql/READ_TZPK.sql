SELECT control_tokens.sealed_tzpk FROM control_tokens
WHERE control_tokens.issuer_id = %(issuer_id)s::VARCHAR
  AND control_tokens.token_hash = %(token_hash)s AND control_tokens.consumed_at IS NULL
  AND control_tokens.ended_at IS NULL AND control_tokens.expires_at > now()
  AND control_tokens.counter = (
    SELECT cards.counter FROM cards
    WHERE cards.issuer_id = %(issuer_id)s::VARCHAR AND cards.card_id = control_tokens.card_id
  )
  AND (
    SELECT count(*) AS newer_count FROM control_tokens AS newer
    WHERE newer.issuer_id = %(issuer_id)s::VARCHAR AND newer.card_id = control_tokens.card_id
      AND newer.client_id = control_tokens.client_id AND newer.purpose = control_tokens.purpose
      AND (newer.issued_at, newer.token_hash) > (
        control_tokens.issued_at, control_tokens.token_hash
      )
      AND newer.consumed_at IS NULL AND newer.ended_at IS NULL AND newer.expires_at > now()
  ) < 3::INTEGER
  AND control_tokens.purpose = 'set'::VARCHAR AND control_tokens.face = 'pincontrol'::VARCHAR
  AND control_tokens.sealed_tzpk IS NOT NULL

WITH
  keyed AS (
    UPDATE control_tokens SET sealed_tzpk=%(sealed_tzpk)s
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
    RETURNING control_tokens.issuer_id, control_tokens.card_id, control_tokens.counter
  ),
  audit AS (
    INSERT INTO audit_events (issuer_id, card_id, event, actor, correlation_id, counter, audit_user)
    SELECT keyed.issuer_id AS issuer_id, keyed.card_id AS card_id,
      'control.key'::VARCHAR AS event, %(actor)s::VARCHAR AS actor,
      %(correlation_id)s::VARCHAR AS correlation_id, keyed.counter AS counter,
      %(audit_user)s::VARCHAR AS audit_user
    FROM keyed
  )
SELECT keyed.counter FROM keyed

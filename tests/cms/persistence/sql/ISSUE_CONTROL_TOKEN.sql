WITH
  "old" AS (
    SELECT control_tokens.token_hash AS token_hash FROM control_tokens
    WHERE control_tokens.issuer_id = %(issuer_id)s::VARCHAR
      AND control_tokens.card_id = %(card_id)s::VARCHAR
      AND control_tokens.expires_at < now() - '1 day 0:00:00'::interval
    LIMIT 1000::INTEGER
  ),
  card AS (
    SELECT cards.issuer_id AS issuer_id, cards.card_id AS card_id,
      cards.personalised AS personalised
    FROM cards
    WHERE cards.issuer_id = %(issuer_id)s::VARCHAR AND cards.card_id = %(card_id)s::VARCHAR
    FOR NO KEY UPDATE
  ),
  revoked AS (
    UPDATE control_tokens SET ended_at=now(), end_reason='revoked'::VARCHAR
    WHERE control_tokens.issuer_id = %(issuer_id)s::VARCHAR
      AND control_tokens.card_id = %(card_id)s::VARCHAR
      AND (EXISTS (SELECT card.card_id FROM card))
      AND control_tokens.client_id = %(client_id)s::VARCHAR
      AND control_tokens.purpose = %(purpose)s::VARCHAR AND control_tokens.consumed_at IS NULL
      AND control_tokens.ended_at IS NULL AND control_tokens.expires_at > now()
      AND (
        SELECT count(*) AS newer_count FROM control_tokens AS newer
        WHERE newer.issuer_id = %(issuer_id)s::VARCHAR AND newer.card_id = control_tokens.card_id
          AND newer.client_id = control_tokens.client_id AND newer.purpose = control_tokens.purpose
          AND (newer.issued_at, newer.token_hash) > (
            control_tokens.issued_at, control_tokens.token_hash
          )
          AND newer.consumed_at IS NULL AND newer.ended_at IS NULL AND newer.expires_at > now()
      ) >= 2::INTEGER
  ),
  forgotten AS (
    DELETE FROM control_tokens
    WHERE control_tokens.issuer_id = %(issuer_id)s::VARCHAR
      AND control_tokens.card_id = %(card_id)s::VARCHAR
      AND (EXISTS (SELECT card.card_id FROM card))
      AND control_tokens.token_hash IN (SELECT "old".token_hash FROM "old")
  ),
  issued AS (
    INSERT INTO control_tokens (
      token_hash, issuer_id, card_id, counter, grant_id, sealed_grant, client_id, face, purpose,
      style, redirect_url, embedded, audit_user, expires_at
    )
    SELECT %(token_hash)s AS token_hash, card.issuer_id AS issuer_id, card.card_id AS card_id,
      %(counter)s::BIGINT AS counter, %(grant_id)s::VARCHAR AS grant_id,
      %(sealed_grant)s AS sealed_grant, %(client_id)s::VARCHAR AS client_id,
      %(face)s::VARCHAR AS face, %(purpose)s::VARCHAR AS purpose, %(style)s::JSONB AS style,
      %(redirect_url)s::VARCHAR AS redirect_url, %(embedded)s AS embedded,
      %(audit_user)s::VARCHAR AS audit_user,
      now() + %(life_seconds)s::INTEGER * '0:00:01'::interval AS expires_at
    FROM card
    RETURNING control_tokens.issuer_id, control_tokens.card_id, control_tokens.counter,
      control_tokens.expires_at
  ),
  audit AS (
    INSERT INTO audit_events (
      issuer_id, card_id, event, actor, correlation_id, counter, reason, audit_user
    )
    SELECT issued.issuer_id AS issuer_id, issued.card_id AS card_id,
      'control.issued'::VARCHAR AS event, %(actor)s::VARCHAR AS actor,
      %(correlation_id)s::VARCHAR AS correlation_id, issued.counter AS counter,
      %(face)s::VARCHAR || ' '::VARCHAR || %(purpose)s::VARCHAR AS reason,
      %(audit_user)s::VARCHAR AS audit_user
    FROM issued
  )
SELECT issued.expires_at FROM issued

WITH
  opened AS (
    UPDATE control_tokens
    SET consumed_at=now(), session_hash=%(session_hash)s,
      session_expires_at=(now() + %(session_seconds)s::INTEGER * '0:00:01'::interval),
      session_ends_at=(now() + '0:20:00'::interval)
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
      AND control_tokens.purpose = %(purpose)s::VARCHAR AND control_tokens.face = %(face)s::VARCHAR
    RETURNING control_tokens.session_expires_at, control_tokens.issuer_id, control_tokens.card_id,
      control_tokens.client_id, control_tokens.face, control_tokens.purpose,
      control_tokens.grant_id, control_tokens.sealed_grant, control_tokens.style,
      control_tokens.redirect_url, control_tokens.embedded, control_tokens.audit_user
  )
SELECT CAST(
    floor(EXTRACT(epoch FROM opened.session_expires_at - now())) AS INTEGER
  ) AS seconds_left,
  cards.last_four, opened.issuer_id, opened.card_id, opened.client_id, opened.face, opened.purpose,
  opened.grant_id, opened.sealed_grant, opened.style, opened.redirect_url, opened.embedded,
  opened.audit_user
FROM opened
JOIN cards ON cards.issuer_id = %(issuer_id)s::VARCHAR AND cards.card_id = opened.card_id

WITH
  extended AS (
    UPDATE control_tokens
    SET
      session_expires_at=least(
        now() + %(session_seconds)s::INTEGER * '0:00:01'::interval, control_tokens.session_ends_at
      )
    WHERE control_tokens.issuer_id = %(issuer_id)s::VARCHAR
      AND control_tokens.session_hash = %(session_hash)s AND control_tokens.ended_at IS NULL
      AND control_tokens.session_expires_at > now() AND control_tokens.tries < 5::INTEGER
      AND control_tokens.counter = (
        SELECT cards.counter FROM cards
        WHERE cards.issuer_id = %(issuer_id)s::VARCHAR AND cards.card_id = control_tokens.card_id
      )
    RETURNING control_tokens.session_expires_at
  )
SELECT
  CAST(floor(EXTRACT(epoch FROM extended.session_expires_at - now())) AS INTEGER) AS seconds_left
FROM extended

WITH
  consumed AS (
    UPDATE control_tokens SET ended_at=now(), end_reason='shown'::VARCHAR
    WHERE control_tokens.session_hash = %(session_hash)s AND control_tokens.ended_at IS NULL
      AND control_tokens.session_expires_at > now()
      AND control_tokens.counter = (
        SELECT cards.counter FROM cards
        WHERE cards.issuer_id = control_tokens.issuer_id AND cards.card_id = control_tokens.card_id
      )
      AND control_tokens.purpose = 'view'::VARCHAR AND control_tokens.face = %(face)s::VARCHAR
    RETURNING control_tokens.issuer_id, control_tokens.card_id, control_tokens.client_id,
      control_tokens.face, control_tokens.purpose, control_tokens.grant_id,
      control_tokens.sealed_grant, control_tokens.style, control_tokens.redirect_url,
      control_tokens.embedded, control_tokens.audit_user
  ),
  shown AS (
    SELECT consumed.issuer_id AS issuer_id, consumed.card_id AS card_id,
      consumed.client_id AS client_id, consumed.face AS face, consumed.purpose AS purpose,
      consumed.grant_id AS grant_id, consumed.sealed_grant AS sealed_grant,
      consumed.style AS style, consumed.redirect_url AS redirect_url,
      consumed.embedded AS embedded, consumed.audit_user AS audit_user, cards.state AS state,
      cards.pin_type AS pin_type, cards.counter AS counter,
      (
        SELECT coalesce(max(pin_changes.counter), 0::INTEGER) AS newest FROM pin_changes
        WHERE pin_changes.issuer_id = cards.issuer_id AND pin_changes.card_id = cards.card_id
      ) AS newest,
      cards.sealed_record AS sealed_record, cards.sealed_pin AS sealed_pin,
      cards.pin_type = 'ISO0'::VARCHAR
      AND cards.counter = (
        SELECT coalesce(max(pin_changes.counter), 0::INTEGER) AS newest FROM pin_changes
        WHERE pin_changes.issuer_id = cards.issuer_id AND pin_changes.card_id = cards.card_id
      )
      AND (
        consumed.face = 'hosted'::VARCHAR AND cards.state = 'active'::VARCHAR
        OR consumed.face = 'pincontrol'::VARCHAR
        AND (cards.state = 'active'::VARCHAR OR cards.state = 'inactive'::VARCHAR)
      ) AS is_readable
    FROM consumed
    JOIN cards ON cards.issuer_id = consumed.issuer_id AND cards.card_id = consumed.card_id
  ),
  audit AS (
    INSERT INTO audit_events (
      issuer_id, card_id, event, actor, correlation_id, counter, reason, audit_user
    )
    SELECT shown.issuer_id AS issuer_id, shown.card_id AS card_id,
      'pin.get.attempted'::VARCHAR AS event, %(actor)s::VARCHAR AS actor,
      %(correlation_id)s::VARCHAR AS correlation_id, shown.counter AS counter,
      shown.face || ' text'::VARCHAR AS reason, shown.audit_user AS audit_user
    FROM shown WHERE shown.is_readable
  )
SELECT shown.issuer_id, shown.card_id, shown.client_id, shown.face, shown.purpose, shown.grant_id,
  shown.sealed_grant, shown.style, shown.redirect_url, shown.embedded, shown.audit_user,
  shown.state, shown.pin_type, shown.counter, shown.newest, shown.sealed_record, shown.sealed_pin
FROM shown

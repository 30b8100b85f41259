WITH
  card AS (
    SELECT cards.issuer_id AS issuer_id, cards.card_id AS card_id, cards.state AS state,
      cards.pin_type AS pin_type, cards.counter AS counter,
      (
        SELECT coalesce(max(pin_changes.counter), 0::INTEGER) AS newest FROM pin_changes
        WHERE pin_changes.issuer_id = cards.issuer_id AND pin_changes.card_id = cards.card_id
      ) AS newest,
      cards.sealed_record AS sealed_record, cards.sealed_pin AS sealed_pin,
      cards.state = 'active'::VARCHAR AND cards.pin_type = 'ISO0'::VARCHAR
      AND cards.counter = (
        SELECT coalesce(max(pin_changes.counter), 0::INTEGER) AS newest FROM pin_changes
        WHERE pin_changes.issuer_id = cards.issuer_id AND pin_changes.card_id = cards.card_id
      ) AS is_readable
    FROM cards
    WHERE cards.issuer_id = %(issuer_id)s::VARCHAR AND cards.card_id = %(card_id)s::VARCHAR
  ),
  audit AS (
    INSERT INTO audit_events (issuer_id, card_id, event, actor, correlation_id, counter)
    SELECT card.issuer_id AS issuer_id, card.card_id AS card_id,
      'pin.get.attempted'::VARCHAR AS event, %(actor)s::VARCHAR AS actor,
      %(correlation_id)s::VARCHAR AS correlation_id, card.counter AS counter
    FROM card WHERE card.is_readable
  )
SELECT card.state, card.pin_type, card.counter, card.newest, card.sealed_record, card.sealed_pin
FROM card

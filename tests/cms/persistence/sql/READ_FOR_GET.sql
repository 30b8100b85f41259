SELECT cards.state, cards.pin_type, cards.counter,
  (
    SELECT coalesce(max(pin_changes.counter), 0::INTEGER) AS newest FROM pin_changes
    WHERE pin_changes.issuer_id = %(issuer_id)s::VARCHAR AND pin_changes.card_id = cards.card_id
  ) AS newest,
  cards.sealed_record, cards.sealed_pin
FROM cards WHERE cards.issuer_id = %(issuer_id)s::VARCHAR AND cards.card_id = %(card_id)s::VARCHAR

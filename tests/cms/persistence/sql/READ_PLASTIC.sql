SELECT cards.issuer_id, cards.card_id, cards.state, cards.personalised, cards.pin_type,
  cards.counter, cards.sealed_record
FROM cards
WHERE cards.issuer_id = %(issuer_id)s::VARCHAR AND cards.plastic_id = %(plastic_id)s::VARCHAR

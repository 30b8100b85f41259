SELECT cards.issuer_id, cards.card_id, cards.state, cards.last_four, cards.expiry,
  cards.card_type, cards.created_at, cards.pin_type, cards.pin_changed_at, cards.counter,
  cards.sealed_record
FROM cards
WHERE cards.issuer_id = %(issuer_id)s::VARCHAR AND cards.cardholder_id = %(cardholder_id)s::VARCHAR
ORDER BY cards.state != 'active'::VARCHAR, cards.state = 'closed'::VARCHAR, cards.created_at DESC,
  cards.card_id
LIMIT 1::INTEGER

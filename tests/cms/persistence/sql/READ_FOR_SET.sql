SELECT cards.state, cards.counter, cards.sealed_record,
  EXISTS (
    SELECT * FROM pin_changes
    WHERE pin_changes.issuer_id = %(issuer_id)s::VARCHAR AND pin_changes.card_id = cards.card_id
      AND pin_changes.request_key = %(request_key)s
  ) AS is_known,
  cards.personalised
FROM cards WHERE cards.issuer_id = %(issuer_id)s::VARCHAR AND cards.card_id = %(card_id)s::VARCHAR

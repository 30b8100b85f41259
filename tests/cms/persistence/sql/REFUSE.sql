INSERT INTO audit_events (
  issuer_id, card_id, event, actor, correlation_id, reason, audit_user, error_id, receipt
)
SELECT %(issuer_id)s::VARCHAR AS issuer_id,
  (
    SELECT cards.card_id FROM cards
    WHERE cards.issuer_id = %(issuer_id)s::VARCHAR AND cards.card_id = %(card_id)s::VARCHAR
  ) AS card_id,
  %(event)s::VARCHAR AS event, %(actor)s::VARCHAR AS actor,
  %(correlation_id)s::VARCHAR AS correlation_id, %(reason)s::VARCHAR AS reason,
  %(audit_user)s::VARCHAR AS audit_user, %(error_id)s::VARCHAR AS error_id,
  %(receipt)s::VARCHAR AS receipt

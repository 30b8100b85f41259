INSERT INTO audit_events (
  issuer_id, event, card_id, actor, correlation_id, counter, reason, audit_user, receipt
)
SELECT %(issuer_id)s::VARCHAR AS issuer_id, 'pin.get'::VARCHAR AS event,
  hand_outs.card_id AS card_id, hand_outs.actor AS actor,
  hand_outs.correlation_id AS correlation_id, hand_outs.counter AS counter,
  hand_outs.reason AS reason, hand_outs.audit_user AS audit_user, hand_outs.receipt AS receipt
FROM jsonb_to_recordset(%(rows)s::JSONB) AS hand_outs(
  card_id VARCHAR, actor TEXT, correlation_id VARCHAR, counter BIGINT, reason VARCHAR,
  audit_user TEXT, receipt VARCHAR
)

INSERT INTO audit_events (
  issuer_id, event, card_id, actor, correlation_id, counter, reason, audit_user, receipt
)
SELECT %(issuer_id)s::VARCHAR AS issuer_id, 'pin.get'::VARCHAR AS event,
  hand_outs.card_id AS card_id, hand_outs.actor AS actor,
  hand_outs.correlation_id AS correlation_id, hand_outs.counter AS counter,
  hand_outs.reason AS reason, hand_outs.audit_user AS audit_user, hand_outs.receipt AS receipt
FROM unnest(
  %(card_id)s::VARCHAR[], %(actor)s::TEXT[], %(correlation_id)s::VARCHAR[], %(counter)s::BIGINT[],
  %(reason)s::VARCHAR[], %(audit_user)s::TEXT[], %(receipt)s::VARCHAR[]
) AS hand_outs(card_id, actor, correlation_id, counter, reason, audit_user, receipt)

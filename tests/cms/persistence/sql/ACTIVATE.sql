WITH
  before AS (
    SELECT cards.state AS state FROM cards
    WHERE cards.issuer_id = %(issuer_id)s::VARCHAR AND cards.card_id = %(card_id)s::VARCHAR
  ),
  activated AS (
    UPDATE cards SET state='active'::VARCHAR, personalised=true
    WHERE cards.issuer_id = %(issuer_id)s::VARCHAR AND cards.card_id = %(card_id)s::VARCHAR
      AND cards.state = 'inactive'::VARCHAR
    RETURNING cards.issuer_id, cards.card_id
  ),
  audit AS (
    INSERT INTO audit_events (issuer_id, card_id, event, actor, correlation_id)
    SELECT activated.issuer_id AS issuer_id, activated.card_id AS card_id,
      'card.activate'::VARCHAR AS event, %(actor)s::VARCHAR AS actor,
      %(correlation_id)s::VARCHAR AS correlation_id
    FROM activated
  )
SELECT before.state FROM before

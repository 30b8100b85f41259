WITH
  before AS (
    SELECT cards.card_type AS card_type, cards.sealed_pin AS sealed_pin FROM cards
    WHERE cards.issuer_id = %(issuer_id)s::VARCHAR AND cards.card_id = %(card_id)s::VARCHAR
  ),
  changed AS (
    UPDATE cards
    SET sealed_pin=%(sealed_pin)s, sealed_pvv=%(sealed_pvv)s,
      sealed_offset_3624=%(sealed_offset_3624)s, sealed_prw=%(sealed_prw)s,
      sealed_script=%(sealed_script)s, pin_type=%(pin_type)s::VARCHAR, pin_changed_at=now(),
      counter=(cards.counter + 1::BIGINT)
    WHERE cards.issuer_id = %(issuer_id)s::VARCHAR AND cards.card_id = %(card_id)s::VARCHAR
      AND cards.counter = %(counter_read)s::BIGINT AND cards.state = %(state_read)s::VARCHAR
      AND cards.sealed_record = %(sealed_record_read)s
    RETURNING cards.issuer_id, cards.card_id, cards.counter
  ),
  history AS (
    INSERT INTO pin_changes (issuer_id, card_id, counter, actor, request_key)
    SELECT changed.issuer_id AS issuer_id, changed.card_id AS card_id,
      changed.counter AS counter, %(actor)s::VARCHAR AS actor, %(request_key)s AS request_key
    FROM changed
  ),
  audit AS (
    INSERT INTO audit_events (
      issuer_id, card_id, event, actor, correlation_id, reason, counter, receipt
    )
    SELECT changed.issuer_id AS issuer_id, changed.card_id AS card_id,
      'pin.set'::VARCHAR AS event, %(actor)s::VARCHAR AS actor,
      %(correlation_id)s::VARCHAR AS correlation_id, 'reversal'::VARCHAR AS reason,
      changed.counter AS counter, %(receipt)s::VARCHAR AS receipt
    FROM changed
  ),
  superseded AS (
    UPDATE card_scripts
    SET state='superseded'::VARCHAR, sealed_earlier_pin=NULL, superseded_at=now()
    WHERE card_scripts.issuer_id = %(issuer_id)s::VARCHAR
      AND card_scripts.card_id = %(card_id)s::VARCHAR
      AND card_scripts.counter = %(counter_read)s::BIGINT AND card_scripts.confirmed_at IS NULL
      AND card_scripts.superseded_at IS NULL AND (EXISTS (SELECT changed.counter FROM changed))
  ),
  begun AS (
    INSERT INTO card_scripts (issuer_id, card_id, counter, sealed_earlier_pin)
    SELECT changed.issuer_id AS issuer_id, changed.card_id AS card_id, changed.counter AS counter,
      before.sealed_pin AS sealed_earlier_pin
    FROM changed, before WHERE before.card_type != 'VIRTUAL'::VARCHAR AND %(script_due)s
  )
SELECT changed.counter FROM changed

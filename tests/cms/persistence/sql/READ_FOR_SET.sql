SELECT cards.state, cards.counter, cards.sealed_record,
  EXISTS (
    SELECT * FROM pin_changes
    WHERE pin_changes.issuer_id = cards.issuer_id AND pin_changes.card_id = cards.card_id
      AND pin_changes.request_key = %(request_key)s
  ) AS is_known,
  coalesce(
    cards.iso0_failed_at[%(failures_card_max)s::INTEGER] > now() - '1 day 0:00:00'::interval, false
  )
  OR coalesce(
    cards.policy_refused_at[%(refusals_card_max)s::INTEGER] > now() - '1 day 0:00:00'::interval,
    false
  ) AS takes_no_iso0,
  coalesce(
    cards.seccos_failed_at[%(failures_card_max)s::INTEGER] > now() - '1 day 0:00:00'::interval,
    false
  ) AS takes_no_seccos,
  coalesce(
    (
      SELECT
        coalesce(
          client_failures.iso0_failed_at[%(failures_client_max)s::INTEGER] > now() - '0:01:00'::interval,
          false
        ) AS is_limited
      FROM client_failures
      WHERE client_failures.issuer_id = %(issuer_id)s::VARCHAR
        AND client_failures.client_id = %(client_id)s::VARCHAR
    ),
    false
  ) AS is_iso0_limited,
  coalesce(
    (
      SELECT
        coalesce(
          client_failures.seccos_failed_at[%(failures_client_max)s::INTEGER] > now() - '0:01:00'::interval,
          false
        ) AS is_limited
      FROM client_failures
      WHERE client_failures.issuer_id = %(issuer_id)s::VARCHAR
        AND client_failures.client_id = %(client_id)s::VARCHAR
    ),
    false
  ) AS is_seccos_limited,
  cards.personalised
FROM cards WHERE cards.issuer_id = %(issuer_id)s::VARCHAR AND cards.card_id = %(card_id)s::VARCHAR

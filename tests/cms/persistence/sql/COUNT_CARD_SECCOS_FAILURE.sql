UPDATE cards
SET
  seccos_failed_at=(
    (
      array_prepend(clock_timestamp(), cards.seccos_failed_at)
    )[1::INTEGER:%(failures_max)s::INTEGER + 1::INTEGER]
  )
WHERE cards.issuer_id = %(issuer_id)s::VARCHAR AND cards.card_id = %(card_id)s::VARCHAR
RETURNING
  coalesce(
    cards.seccos_failed_at[%(failures_max)s::INTEGER] > now() - '1 day 0:00:00'::interval, false
  )
  AND NOT coalesce(
    cards.seccos_failed_at[(
      %(failures_max)s::INTEGER + 1::INTEGER
    )] > now() - '1 day 0:00:00'::interval,
    false
  ) AS has_reached

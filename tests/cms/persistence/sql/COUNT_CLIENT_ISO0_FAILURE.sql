UPDATE clients
SET
  iso0_failed_at=(
    (
      array_prepend(clock_timestamp(), clients.iso0_failed_at)
    )[1::INTEGER:%(failures_max)s::INTEGER + 1::INTEGER]
  )
WHERE clients.issuer_id = %(issuer_id)s::VARCHAR AND clients.client_id = %(client_id)s::VARCHAR
RETURNING
  coalesce(clients.iso0_failed_at[%(failures_max)s::INTEGER] > now() - '0:01:00'::interval, false)
  AND NOT coalesce(
    clients.iso0_failed_at[(%(failures_max)s::INTEGER + 1::INTEGER)] > now() - '0:01:00'::interval,
    false
  ) AS has_reached

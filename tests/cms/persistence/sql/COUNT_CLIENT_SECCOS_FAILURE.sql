INSERT INTO client_failures (issuer_id, client_id, seccos_failed_at) VALUES (
  %(issuer_id)s::VARCHAR, %(client_id)s::VARCHAR, ARRAY[clock_timestamp()]
) ON CONFLICT (issuer_id, client_id) DO
UPDATE
SET
  seccos_failed_at = (
    (
      array_prepend(clock_timestamp(), client_failures.seccos_failed_at)
    )[1::INTEGER:%(failures_max)s::INTEGER + 1::INTEGER]
  )
RETURNING
  coalesce(
    client_failures.seccos_failed_at[%(failures_max)s::INTEGER] > now() - '0:01:00'::interval, false
  )
  AND NOT coalesce(
    client_failures.seccos_failed_at[(
      %(failures_max)s::INTEGER + 1::INTEGER
    )] > now() - '0:01:00'::interval,
    false
  ) AS has_reached

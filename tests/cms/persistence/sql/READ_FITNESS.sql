SELECT current_setting('server_encoding'::VARCHAR) AS server_encoding,
  current_setting('fsync'::VARCHAR) = 'on'::VARCHAR
  AND current_setting('full_page_writes'::VARCHAR) = 'on'::VARCHAR
  AND current_setting('synchronous_commit'::VARCHAR) != 'off'::VARCHAR
  AND current_setting('synchronous_commit'::VARCHAR) != 'local'::VARCHAR AS durable,
  pg_is_in_recovery()
  OR current_setting('transaction_read_only'::VARCHAR) = 'on'::VARCHAR AS read_only,
  current_setting('synchronous_standby_names'::VARCHAR) != ''::VARCHAR
  AND (
    (
      EXISTS (
        SELECT * FROM pg_stat_activity
        WHERE pg_stat_activity.wait_event = 'SyncRep'::VARCHAR
          AND pg_stat_activity.query_start < now() - '0:00:02'::interval
      )
    )
    OR NOT (
      EXISTS (
        SELECT * FROM pg_stat_replication
        WHERE pg_stat_replication.sync_state IS NULL
          OR pg_stat_replication.sync_state = 'sync'::VARCHAR
          OR pg_stat_replication.sync_state = 'quorum'::VARCHAR
      )
    )
  ) AS not_replicated,
  clock_timestamp() AS clock

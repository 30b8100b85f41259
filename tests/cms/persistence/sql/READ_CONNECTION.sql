SELECT pg_backend_pid() AS backend_pid,
  current_setting('server_encoding'::VARCHAR) AS server_encoding,
  pg_is_in_recovery()
  OR current_setting('transaction_read_only'::VARCHAR) = 'on'::VARCHAR AS read_only

SELECT
  current_setting('fsync'::VARCHAR) AS fsync,
  current_setting('full_page_writes'::VARCHAR) AS full_page_writes,
  current_setting('synchronous_commit'::VARCHAR) AS synchronous_commit

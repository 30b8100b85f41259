SELECT
  set_config(
    pg_settings.name,
    CAST(
      least(
        nullif(CAST(pg_settings.setting AS INTEGER), 0::INTEGER), %(statement_ms)s::INTEGER
      ) AS VARCHAR
    ),
    false
  ) AS statement_timeout
FROM pg_settings WHERE pg_settings.name = 'statement_timeout'::VARCHAR

INSERT INTO manifest_hosts (issuer_id, host, version, outcome, at) VALUES (
  %(issuer_id)s::VARCHAR, %(host)s::VARCHAR, %(version)s::BIGINT, %(outcome)s::VARCHAR, now()
) ON CONFLICT (issuer_id, host) DO
UPDATE SET version = excluded.version, outcome = excluded.outcome, at = excluded.at

SELECT manifest_hosts.issuer_id, manifest_hosts.version, manifest_hosts.outcome FROM manifest_hosts
WHERE manifest_hosts.host = %(host)s::VARCHAR

SELECT DISTINCT ON (vault_config.kind) vault_config.issuer_id, vault_config.kind,
  vault_config.version, vault_config.valid_from, vault_config.valid_until, vault_config.key_label,
  vault_config.body, vault_config.cmac
FROM vault_config
WHERE vault_config.issuer_id = %(issuer_id)s::VARCHAR AND vault_config.valid_from <= now()
ORDER BY vault_config.kind, vault_config.valid_until > now() DESC,
  CASE WHEN (vault_config.valid_until > now()) THEN vault_config.version END DESC,
  vault_config.valid_from DESC, vault_config.version DESC

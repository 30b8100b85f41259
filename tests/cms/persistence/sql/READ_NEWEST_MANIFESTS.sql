SELECT issuers.issuer_id,
  coalesce(
    (
      SELECT max(manifests.version) AS max_1 FROM manifests
      WHERE manifests.issuer_id = issuers.issuer_id
    ),
    0::INTEGER
  ) AS version
FROM issuers

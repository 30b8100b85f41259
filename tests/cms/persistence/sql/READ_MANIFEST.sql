SELECT manifests.text FROM manifests
WHERE manifests.issuer_id = %(issuer_id)s::VARCHAR AND manifests.version = %(version)s::BIGINT

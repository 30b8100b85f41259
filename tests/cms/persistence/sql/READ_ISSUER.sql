SELECT issuers.state FROM issuers WHERE issuers.issuer_id = %(issuer_id)s::VARCHAR

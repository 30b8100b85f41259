SELECT issuers.issuer_id FROM issuers

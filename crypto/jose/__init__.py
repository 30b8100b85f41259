"""JOSE reduced to what this service speaks: ECDH-ES with A256GCM, ES256, P-256, compact only."""

"""The part of JOSE that this service uses: ECDH-ES with A256GCM, ES256, P-256, compact form."""

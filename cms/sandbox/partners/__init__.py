"""The partners of an issuer, each simulated by a client or a server of its own.

Nothing here imports anything else of this project, not even its PIN blocks or its JWE: a mistake in
the service is then not repeated, and hidden, on the other side. Clear PINs and keys are at home
where a partner has them.
"""

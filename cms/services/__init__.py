"""Use cases: each is one call of a face."""

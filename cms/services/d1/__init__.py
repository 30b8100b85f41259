"""Use cases of the D1 listener."""

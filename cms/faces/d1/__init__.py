"""The face that Thales D1 calls."""

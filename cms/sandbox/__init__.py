"""The demo: development certificates, sample cards, and a client that plays Thales D1."""

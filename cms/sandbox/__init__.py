"""The demo: development certificates, sample cards, and clients that play the partners."""

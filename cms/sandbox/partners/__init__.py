"""Clients that play the other side; they import nothing of the service."""

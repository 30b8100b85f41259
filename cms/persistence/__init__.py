"""Postgres: tables, and every statement that the service runs."""

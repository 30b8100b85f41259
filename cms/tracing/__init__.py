"""Spans of requests, statements and calls of the vault, for a collector that the settings name.

Loaded only then: nothing of it is in the way of a request otherwise. docs/tracing.md says what a
span holds.
"""

"""Measurements, never tests: nothing here asserts a time. ``python -m benchmarks`` runs all."""

"""Use cases of the cardholder listener."""

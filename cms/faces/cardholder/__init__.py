"""The faces of the cardholder listener, and the pages that both of them show."""

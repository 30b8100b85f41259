"""API dialects. A face does not import another."""

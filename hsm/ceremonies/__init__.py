"""What people do with keys, and leave on record: make, bring in, destroy; with their commands."""

"""What the vault of a host did, in a log of its own: a chain of lines, each with a MAC."""

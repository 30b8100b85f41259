"""The vault: the only code that may hold a clear PIN, a clear PAN or a key handle."""

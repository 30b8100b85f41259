"""What the sandbox runs on this machine: Postgres, SoftHSM2, a development CA."""

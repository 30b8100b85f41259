"""What the sandbox needs of this machine: Postgres, SoftHSM2, a development CA, free ports."""

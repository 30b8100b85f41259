"""The hosted face: what apps and cardholders' devices call. The contract is published."""

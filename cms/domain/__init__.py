"""What a card allows and how a request can fail; no I/O."""

"""Pure functions and value types: no I/O, clock, environment or log; randomness is an argument."""

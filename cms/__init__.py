"""The service: faces on the network, use cases, Postgres. It never holds a clear PIN or PAN."""

"""The vault as a program of its own: ``python -m hsm serve``.

A supervisor binds the sockets and starts workers; it holds no key and serves nobody. A worker has
one thread and one login at the HSM token, and serves whoever connects, one call after another.
"""

"""A program of its own, for trials: the demo, what it needs of a machine, and an issuer's partners.

It is no part of the product: nothing of the service imports it, and no image holds it.
"""

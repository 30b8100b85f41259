"""PIN verification values: an authorisation host checks a PIN with them.

They are secret too: whoever has one, and a way to compute it, can test guesses of the PIN.
"""

"""The HSM token over python-pkcs11, and its keys: the only package that imports the binding.

Four facts shape it. The binding initialises a library as single-threaded, yet lets other threads
run during a call: the library is told to lock instead. A login belongs to the process and ends
with the session that made it: there is one session, which stays open. Looking a key up costs more
than using it: all keys are found once, at opening. The binding costs half as much again as
the module itself: what a request needs is called without it (:mod:`hsm.pkcs11.calls`), with the
handles that it found; everything else goes through it.
"""

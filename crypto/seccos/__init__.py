"""The PIN form that Thales D1 calls "PIN 3DES Seccos": block, PRW and MAC, as a profile says.

NOT PUBLIC: OUR DESIGN. Neither Thales nor the German banks publish the layouts, so every choice
is a knob of :mod:`crypto.seccos.profile`, and its defaults are ours. The nearest public text is
IBM CCA, "DK PIN methods": PRW is a MAC over PAN, card data, PIN length, PIN and 4 random bytes.

::

    payload   { pinBlock, prw, prwRandom, mac, pinChangeCounter, keyId }      inside the JWE
    block     TDES( clear PIN block, perhaps with itself enciphered under itself )
    prw       MAC( PAN, card data, counter, PIN, random )
    mac       MAC( script header, counter, block )
"""

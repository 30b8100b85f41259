"""The form of PIN that Thales D1 calls "PIN 3DES Seccos": a PIN block, a PRW and a MAC.

NOT PUBLIC: OUR DESIGN. Neither Thales nor the German banks publish the layouts. So every choice
is a member of :mod:`crypto.seccos.profile`, with a default of our own. The nearest public text is
IBM CCA, "DK PIN methods": PRW is a MAC over PAN, card data, PIN length, PIN and 4 random bytes.

::

    payload   { pinBlock, prw, prwRandom, mac, pinChangeCounter, keyId }      inside the JWE
    block     TDES( clear PIN block, perhaps enciphered under itself )
    prw       MAC( PAN, card data, counter, PIN, random )
    mac       MAC( script header, counter, block )
"""

"""A TDES key that was derived in the HSM token for one request."""

from pkcs11 import Mechanism

from hsm.pkcs11.calls import DES3_CMAC, DES3_ECB, Calls
from hsm.pkcs11.hsm_token import TDES_MAC_BYTES


class DerivedKey:
    """A :class:`hsm.pkcs11.hsm_token.SessionKey`."""

    def __init__(self, calls: Calls, handle: int) -> None:
        self._calls = calls
        self._handle = handle

    def encrypt(self, data: bytes) -> bytes:
        """Encipher in ECB mode."""
        return self._calls.encrypt(DES3_ECB, self._handle, data)

    def decrypt(self, data: bytes) -> bytes:
        """Decipher in ECB mode."""
        return self._calls.decrypt(DES3_ECB, self._handle, data)

    def encrypt_cbc(self, iv: bytes, data: bytes) -> bytes:
        """Encipher in CBC mode."""
        return self._calls.encrypt_cbc(Mechanism.DES3_CBC, self._handle, iv, data)

    def mac(self, data: bytes) -> bytes:
        """Make a TDES-CMAC."""
        return self._calls.sign(DES3_CMAC, self._handle, data, TDES_MAC_BYTES)

"""A TDES key that was derived in the HSM token for one request."""

from typing import Any

from pkcs11 import Mechanism

from hsm.pkcs11.device_call import device_call


class DerivedKey:
    """A :class:`hsm.pkcs11.hsm_token.SessionKey`."""

    def __init__(self, key: Any) -> None:  # noqa: ANN401 - the binding has no types
        self._key = key

    @device_call
    def encrypt(self, data: bytes) -> bytes:
        """Encipher in ECB mode."""
        return bytes(self._key.encrypt(data, mechanism=Mechanism.DES3_ECB))

    @device_call
    def decrypt(self, data: bytes) -> bytes:
        """Decipher in ECB mode."""
        return bytes(self._key.decrypt(data, mechanism=Mechanism.DES3_ECB))

    @device_call
    def encrypt_cbc(self, iv: bytes, data: bytes) -> bytes:
        """Encipher in CBC mode."""
        return bytes(self._key.encrypt(data, mechanism=Mechanism.DES3_CBC, mechanism_param=iv))

    @device_call
    def mac(self, data: bytes) -> bytes:
        """Make a TDES-CMAC."""
        return bytes(self._key.sign(data, mechanism=Mechanism.DES3_CMAC))

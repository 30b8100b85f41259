"""The PIN blocks that D1 sends and gets as ISO-0: clear, or under the issuer's zone PIN key (ZPK).

::

    protection   block in the JSON object                    hexadecimal digits
    none         format 0, clear                             16
    zpk-tdes     format 0, enciphered by TDES in ECB mode    16
    zpk-aes      format 4, enciphered by AES                 32

ISO 9564-1:2017 enciphers format 0 by TDES only (9.3) and has format 4 for AES (9.4), which is bound
to the same PAN; PCI PIN 3-3 lets one become the other.
"""

from collections.abc import Callable
from typing import Final

from crypto.pinblock import PinBlockFormat, iso0, iso4
from crypto.translation import permit
from crypto.types import PIN_BLOCK_BYTES, Pan, Pin, PinBlock
from crypto.weak_pins import PinPolicy, check_length
from hsm import plaintexts
from hsm.manifest.wire import Iso0Wire
from hsm.pkcs11.hsm_token import HsmToken
from hsm.pkcs11.keyring import Keyring
from hsm.pkcs11.keys import KeyLabel, KeyRole

ROLES: Final = {"zpk-tdes": KeyRole.ZPK, "zpk-aes": KeyRole.ZPK_AES}


class ZoneBlocks:
    """Reads and writes the blocks of one issuer, whose ZPK it looks for when it is needed.

    Every method may raise ``KeyMissing``: the ZPK that the profile names was not imported.
    """

    def __init__(
        self,
        hsm_token: HsmToken,
        keyring: Keyring,
        issuer_id: str,
        wire: Iso0Wire,
        may_encipher: Callable[[KeyLabel], None],
    ) -> None:
        self._hsm_token = hsm_token
        self._keyring = keyring
        self._issuer_id = issuer_id
        self._wire = wire
        self._may_encipher = may_encipher
        self._format = PinBlockFormat.ISO4 if wire.protection == "zpk-aes" else PinBlockFormat.ISO0

    def read(self, members: dict[str, object], pan: Pan, policy: PinPolicy) -> Pin:
        """Return the PIN of the block in *members*.

        In format 0 the length stands apart from the PAN, and is judged first. In a longer PIN than
        *policy* allows, up to ten digits of the PAN are masked by digits of the PIN alone: told
        only of a block whose digits are digits, its length would tell of each digit of the PAN.

        Raises:
            PinBlockError: *members* does not have one block, or it is not one for *pan*.
            PinLengthError: the block is of format 0, and *policy* does not allow its length.
        """
        permit(self._format, PinBlockFormat.ISO4, same_pan=True)
        if self._format is PinBlockFormat.ISO4:
            block = plaintexts.read_block(members, self._wire, pan, iso4.BLOCK_BYTES).reveal()
            label = self._label()
            return iso4.decipher(
                block, pan, lambda data: self._hsm_token.decrypt_block(label, data)
            )
        block = plaintexts.read_block(members, self._wire, pan, PIN_BLOCK_BYTES).reveal()
        if self._wire.protection == "zpk-tdes":
            block = self._hsm_token.tdes_decrypt(self._label(), block)
        check_length(iso0.pin_length(PinBlock(block)), policy)
        return iso0.decode(PinBlock(block), pan)

    def write(self, pin: Pin, pan: Pan) -> bytes:
        """Write the JSON object with the block of *pin* for *pan*.

        Raises:
            KeyUsedUp: a ZPK of TDES may encipher no more.
        """
        permit(PinBlockFormat.ISO4, self._format, same_pan=True)
        if self._format is PinBlockFormat.ISO4:
            label = self._label()
            block = iso4.encipher(
                pin,
                pan,
                self._hsm_token.random,
                lambda iv, fields: self._hsm_token.encrypt_cbc(label, iv, fields),
            )
        else:
            block = iso0.encode(pin, pan).reveal()
            if self._wire.protection == "zpk-tdes":
                label = self._label()
                self._may_encipher(label)
                block = self._hsm_token.tdes_encrypt(label, block)
        return plaintexts.write_block(block, self._wire)

    def _label(self) -> KeyLabel:
        role = ROLES[self._wire.protection]
        return self._keyring.shared(role, self._issuer_id, self._wire.key_generation, role.kinds)

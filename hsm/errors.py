"""The ways in which the vault can say no. No error carries a value.

::

    HsmError
    ├── PinRejected        the JWE, the block or the PIN in it cannot be used: one answer for all
    │   ├── NotGenuine     MAC or counter of a SECCOS payload are wrong: a guess without its keys
    │   ├── WrongPinData   block or PRW are wrong: a guess at the PAN or, with keys, at the PIN
    │   └── CardRefusesForm the card's PINs in this form failed too often
    ├── WeakPinRefused     a well-formed PIN that the issuer's policy forbids
    ├── TypeNotOffered     a PIN-block type that the issuer's manifest does not take
    ├── TextNotOffered     the issuer's policy does not show a PIN as text
    ├── PageKeyRejected    the key to which a page wants that text is not a public P-256 key
    ├── ValueNotPossible   a PIN verification value that is asked for cannot be made
    ├── CounterExhausted   the card has had as many changes as the SECCOS profile counts
    ├── FeedRefused        a feed of cards is not signed, addressed or dated as it must be
    ├── CardRefused        a card of a feed cannot be used
    ├── ClientLimited      the client's PINs in this form failed too often
    ├── LimitReached       as many hand-outs as the manifest allows on a day, or of a grant
    ├── CallerRefused      a client, its secret or its certificate is not registered: one answer
    ├── BearerRefused      an access token is not one of the issuer's identity provider, or is over
    ├── StepUpMissing      the cardholder's authentication is not as strong or recent as is wanted
    ├── EvidenceRefused    client, secret, cardholder and card do not belong together: one answer
    ├── GrantRefused       a grant is late, or of another token, purpose or card: one answer
    ├── SealBroken         a sealed value is not the one sealed for this card and counter
    ├── ManifestRefused    a manifest, or what it is signed with or trusted by, cannot be used
    ├── MessageRefused    what comes on a socket is no message, or none of this release
    ├── VaultFailed       the vault made a mistake that has no other name here
    ├── LogBroken          a line of the vault's log is not the one that it wrote there
    ├── NotForProduction   the HSM token or its user PIN is for development only
    ├── CeremonyError      a role file, a key block or a key on the HSM token is not as it must be
    └── VaultUnavailable   the HSM token is unavailable, busy or without a key; nothing was changed
        ├── VaultBusy      too many calls wait for the HSM token already
        ├── LogUnavailable the vault's log cannot be written: nothing is handed out
        ├── LoginRefused   the HSM token refused the login: this process never tries again
        ├── KeyMissing     the HSM token answers, and lacks one key
        ├── KeyNotInUse    the table of key generations lets nothing be done with a key
        ├── MechanismMissing the module cannot do what the service, or one of its keys, needs
        ├── CountsUnavailable what this host counts cannot be read and written
        └── KeyUsedUp      a TDES key has enciphered as many blocks as the manifest lets it
"""


class HsmError(Exception):
    """Root of the tree; never raised itself."""

    receipt: str | None = None
    """Names the line of the vault's log that tells of it, if one does (:mod:`hsm.log.lines`)."""


class PinRejected(HsmError):
    """The PIN could not be taken. It never says why: the reason would help to guess the PIN."""


class NotGenuine(PinRejected):
    """The SECCOS payload was not made for this change with D1's key. It is counted."""


class WrongPinData(PinRejected):
    """An ISO-0 block is not for the PAN, or what SECCOS's MAC covers is wrong. It is counted."""


class CardRefusesForm(PinRejected):
    """Too many PINs of the card failed in this form. Nothing was tried."""


class WeakPinRefused(HsmError):
    """The PIN policy forbids this PIN."""


class TypeNotOffered(HsmError):
    """The issuer's manifest does not take this PIN-block type."""


class TextNotOffered(HsmError):
    """The issuer's policy does not show a PIN as text."""


class PageKeyRejected(HsmError):
    """A page's key is not a public P-256 key, or it is one of our own."""


class ValueNotPossible(HsmError):
    """A PIN verification value that the issuer asks for cannot be made of this PIN."""


class CounterExhausted(HsmError):
    """The SECCOS profile counts no further change of this card."""


class FeedRefused(HsmError):
    """A feed of cards cannot be used; it says why."""


class CardRefused(HsmError):
    """A card of a feed cannot be used; it says why, and names the member at fault."""


class ClientLimited(HsmError):
    """Too many PINs of the client failed in this form. Nothing was tried."""


class LimitReached(HsmError):
    """A card, a client, an issuer or a grant has had as many hand-outs as it may have."""


class CallerRefused(HsmError):
    """A client, its secret or its certificate is not registered. It never says which."""


class BearerRefused(HsmError):
    """An access token does not name a cardholder of the issuer. It never says why."""


class StepUpMissing(HsmError):
    """An access token is good, and its authentication is too weak or too old for what is asked."""


class EvidenceRefused(HsmError):
    """Nobody proved that they may see or set the PIN of the card. It never says what is wrong."""


class GrantRefused(HsmError):
    """A grant is not for what is asked, or no longer. It never says why."""


class SealBroken(HsmError):
    """The sealed value was not sealed for this card, this counter and this key."""


class ManifestRefused(HsmError):
    """A manifest, list of minimum versions, trust file or key file cannot be used; it says why."""


class LogBroken(HsmError):
    """A line of the vault's log was changed, moved or removed; it says how that shows."""


class MessageRefused(HsmError):
    """A message on a socket of the vault is malformed, of another release, or not for there."""


class VaultFailed(HsmError):
    """A verb ended in a way that is not foreseen. The vault's own output says how."""


class NotForProduction(HsmError):
    """The HSM token is one in software, or its user PIN was made by the sandbox."""


class CeremonyError(HsmError):
    """A role file, a key block or a key on the HSM token is not as it must be."""


class VaultUnavailable(HsmError):
    """The HSM token is unavailable, busy or lacks a key. The call may be repeated."""


class VaultBusy(VaultUnavailable):
    """The call would have to wait too long for others. The HSM token was not called."""


class LogUnavailable(VaultUnavailable):
    """The vault's log is missing, cannot be written, or is shorter than it was."""


class KeyMissing(VaultUnavailable):
    """A key is not on the HSM token, or was made after this process found its keys."""


class KeyNotInUse(VaultUnavailable):
    """The table of key generations lets nothing be done with a key: it is retired, or worse."""


class MechanismMissing(VaultUnavailable):
    """The PKCS#11 module lacks a mechanism, which it names."""


class CountsUnavailable(VaultUnavailable):
    """What this host counts cannot be read and written: nothing is done that must be counted."""


class KeyUsedUp(VaultUnavailable):
    """A TDES key has enciphered as many blocks here as the issuer's manifest lets it."""


class LoginRefused(VaultUnavailable):
    """The HSM token refused the login. A device locks after a few tries: do not try again."""

"""Whether operators who count now signed what a file of this host holds.

The CMAC of a file says that this host took it, so that it outlives an operator who leaves. But
whoever had the key of the CMAC may have written files of their own: before one gets a CMAC of
another key, its signatures are looked at again.
"""

from hsm.errors import ManifestRefused
from hsm.manifest import signed
from hsm.manifest.host_files import MINIMUM_VERSIONS
from hsm.manifest.trust import Trust


def is_signed(trust: Trust, name: str, text: str) -> bool:
    """Tell whether enough operators signed *text*, for what is in the file *name*.

    Args:
        trust: who counts.
        name: of a file of :mod:`hsm.manifest.host_files`, but for the table of key generations.
        text: its JWS.
    """
    try:
        document = signed.parse(text)
        if name == MINIMUM_VERSIONS:
            trust.accept_minimum_versions(document)
            return True
        return issuer_of(name) == trust.accept_manifest(document).issuer_id
    except ManifestRefused:
        return False


def issuer_of(name: str) -> str | None:
    """Name the issuer whose manifest is in the file *name*; None: it is of no issuer."""
    try:
        return bytes.fromhex(name).decode("utf-8", "surrogatepass")
    except ValueError:
        return None


def described(name: str) -> str:
    """Name a file for people, with the issuer where it has one."""
    issuer_id = issuer_of(name)
    return ascii(f"{name}.json")[1:-1] + ("" if issuer_id is None else f" of {issuer_id!a}")

"""What a manifest may say, and operators should know that they sign."""

from collections.abc import Iterator

from crypto.seccos.profile import SeccosProfile
from hsm.manifest.model import Manifest


def cautions(manifest: Manifest) -> Iterator[str]:
    """Name each member that weakens what the defaults give, and say how."""
    if manifest.seccos is not None:
        yield from _of_seccos(manifest.seccos)
    for client_id in sorted({key.client_id for key in manifest.pin_operations.pre_shared_keys}):
        yield (
            f"pin_operations.pre_shared_keys: {client_id} sees PINs in clear, and sets one again,"
            " or on another plastic, with a block that anybody recorded"
        )


def _of_seccos(profile: SeccosProfile) -> Iterator[str]:
    if profile.pin_block.same_on_every_card:
        yield (
            "seccos.pin_block.same_on_every_card: the same PIN makes the same block on every card;"
            " whoever sees blocks sees which cards have one PIN"
        )
    if not profile.is_under_card_keys:
        yield (
            "seccos: by session_key none, block and MAC of a script, or one of them, are under a"
            " key of all cards"
        )

"""What a manifest may say, and operators should know that they sign."""

from collections.abc import Iterator

from hsm.manifest.model import Manifest


def cautions(manifest: Manifest) -> Iterator[str]:
    """Name each member that weakens what the defaults give, and say how."""
    seccos = manifest.seccos
    if seccos is None:
        return
    if seccos.pin_block.same_on_every_card:
        yield (
            "seccos.pin_block.same_on_every_card: the same PIN makes the same block on every card;"
            " whoever sees blocks sees which cards have one PIN"
        )
    if not seccos.is_under_card_keys:
        yield (
            "seccos: by session_key none, block and MAC of a script, or one of them, are under a"
            " key of all cards"
        )

"""What a manifest may say, and operators should know that they sign."""

from collections.abc import Iterator

from hsm.manifest.model import Manifest


def cautions(manifest: Manifest) -> Iterator[str]:
    """Name each member that weakens what the defaults give, and say how."""
    for client_id in sorted({key.client_id for key in manifest.pin_operations.pre_shared_keys}):
        yield (
            f"pin_operations.pre_shared_keys: {client_id} sees PINs in clear, and sets one again,"
            " or on another plastic, with a block that anybody recorded"
        )

"""What commands call, on a vault in this process."""

from dataclasses import dataclass
from typing import TypeVar

from hsm.messages import SocketName, Verb
from hsm.verbs import PinVault

T = TypeVar("T")


@dataclass(frozen=True)
class InProcessAdmin:
    """Calls the verbs that :class:`hsm.admin_client.AdminClient` may call."""

    vault: PinVault

    def call(self, message: Verb[T]) -> T:
        assert SocketName.ADMIN in message.sockets
        return message.perform(self.vault)

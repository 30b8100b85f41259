"""A vault in the process of a test, called as if over its sockets."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from hsm import messages
from hsm.client import VaultCalls
from hsm.errors import HsmError, VaultFailed
from hsm.manifest import model
from hsm.manifest.model import Manifest
from hsm.messages import ReadManifest, Verb
from hsm.verbs import PinVault

T = TypeVar("T")


class InProcessVault:
    """Calls verbs on a thread of its own; what is asked and answered was written and read."""

    def __init__(self, vault: PinVault) -> None:
        self._vault = vault
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="vault")

    async def run(self, verb: Callable[[PinVault], T]) -> T:
        """Run what is no verb of the web's sockets where the verbs run."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, verb, self._vault)

    async def call(self, message: Verb[T]) -> T:
        call = messages.encode_call(0, message)
        socket = min(message.sockets & messages.WEB)
        _, read = messages.decode_call(call, socket)
        _, error, answer = messages.decode_answer(await self.run(lambda vault: _do(read, vault)))
        if error is not None:
            raise error
        return messages.read_answer(type(message), answer)

    async def read_manifest(self, issuer_id: str) -> Manifest | None:
        text = await self.call(ReadManifest(issuer_id))
        return None if text.canonical is None else model.parse(text.canonical)

    async def close(self) -> None:
        self._thread.shutdown(cancel_futures=True)


class NoVault:
    """A vault that is not there, or fails at all that it is asked."""

    def __init__(self, error: HsmError) -> None:
        self.error = error

    async def call(self, message: Verb[T]) -> T:  # noqa: ARG002 - as any vault is called
        raise self.error

    async def read_manifest(self, issuer_id: str) -> Manifest | None:  # noqa: ARG002 - the same
        raise self.error

    async def close(self) -> None:
        """There is nothing to close."""


def in_process(vault: VaultCalls) -> InProcessVault:
    """Return the vault of a service that runs in this process."""
    assert isinstance(vault, InProcessVault)
    return vault


def _do(message: Verb[object], vault: PinVault) -> bytes:
    try:
        return messages.encode_answer(0, message.perform(vault))
    except HsmError as error:
        return messages.encode_refusal(0, error)
    except Exception:  # noqa: BLE001 - as a worker of the vault does
        return messages.encode_refusal(0, VaultFailed())

"""The CMAC of a configuration: an operator's command makes it, the vault checks it before use.

It is an AES-CMAC (16 bytes) with a key of role ``config-mac`` of the HSM token, over ``config``,
issuer, kind, version, dates (UTC, ISO 8601), key label and body, joined by
:func:`hsm.sealed.length_prefixed`.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from hmac import compare_digest
from typing import TypeVar

from pydantic import BaseModel

from hsm.errors import CeremonyError, ConfigRefused
from hsm.manifest.body import canonical_body
from hsm.manifest.kinds import parse_body
from hsm.pkcs11.keys import KeyLabel, KeyRole
from hsm.port import ConfigKind, SealedConfig, VaultConfig
from hsm.sealed import length_prefixed

B = TypeVar("B", bound=BaseModel)
Mac = Callable[[KeyLabel, bytes], bytes]


def with_cmac(config: SealedConfig, label: KeyLabel, mac: Mac) -> SealedConfig:
    """Check *config* and return it with its CMAC under the key *label*.

    Every default is written into the body: a later version of this program may have other ones.

    Raises:
        ConfigRefused: the body is not of its kind, the version is less than 1, or the end is not
            after the beginning.
    """
    if not config.valid_from < config.valid_until or config.version < 1:
        raise ConfigRefused("refused members: version, valid_from, valid_until")
    body = canonical_body(parse_body(config.kind, config.body).model_dump(mode="json"))
    labelled = replace(config, key_label=str(label), body=body)
    return replace(labelled, cmac=mac(label, _mac_input(labelled)))


class ConfigReader:
    """Reads sealed configurations. The CMAC of each is checked once, its dates at every reading.

    Args:
        mac: makes an AES-CMAC with the key of a label.
        now: the time, UTC.
    """

    def __init__(self, mac: Mac, now: Callable[[], datetime]) -> None:
        self._mac = mac
        self._now = now
        self._verified: dict[SealedConfig, BaseModel] = {}

    def read(self, kind: ConfigKind, model: type[B], config: VaultConfig, issuer_id: str) -> B:
        """Return the body of the configuration of *kind*.

        Raises:
            ConfigRefused: it is missing, of another issuer, not sealed with this HSM token, or not
                valid now.
        """
        sealed = config.get(kind)
        if sealed is None or sealed.issuer_id != issuer_id or sealed.kind is not kind:
            raise ConfigRefused("a configuration is missing")
        if not sealed.valid_from <= self._now() < sealed.valid_until:
            raise ConfigRefused("a configuration is not valid now")
        if sealed not in self._verified:
            self._verify(sealed)
            self._verified[sealed] = parse_body(kind, sealed.body)
        body = self._verified[sealed]
        if not isinstance(body, model):
            raise ConfigRefused("a configuration is of another kind")
        return body

    def find(
        self, kind: ConfigKind, model: type[B], config: VaultConfig, issuer_id: str
    ) -> B | None:
        """Return the body of the configuration of *kind*, or None when the issuer has none.

        Raises:
            ConfigRefused: it has one, and :meth:`read` refuses it.
        """
        return self.read(kind, model, config, issuer_id) if kind in config else None

    def _verify(self, sealed: SealedConfig) -> None:
        try:
            label = KeyLabel.parse(sealed.key_label)
        except CeremonyError:
            raise ConfigRefused("a configuration is not sealed") from None
        if label.role is not KeyRole.CONFIG_MAC or not compare_digest(
            self._mac(label, _mac_input(sealed)), sealed.cmac
        ):
            raise ConfigRefused("a configuration is not sealed")


def _mac_input(config: SealedConfig) -> bytes:
    return length_prefixed(
        b"config",
        config.issuer_id.encode(),
        config.kind.value.encode(),
        str(config.version).encode(),
        config.valid_from.astimezone(UTC).isoformat().encode(),
        config.valid_until.astimezone(UTC).isoformat().encode(),
        config.key_label.encode(),
        config.body,
    )

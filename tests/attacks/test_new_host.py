"""A new host: whoever owns the database cannot have it begin with what operators replaced.

The attack is made a second time on a host whose minimum versions are empty, and then it succeeds.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeAlias

import pytest

from hsm.errors import ManifestRefused
from hsm.manifest.signed import MINIMUM_VERSIONS_TYPE
from hsm.vault import Vault
from tests.attacks.table import Attacker
from tests.contracts.software_token import SoftwareToken
from tests.issuer_records import app_client
from tests.operators import manifest, minimum_versions, prepare_host, reopen_vault, signed

ATTACKER = Attacker(
    who=("whoever writes the database from which a new host begins, or one that lost its state"),
    gets="every manifest that operators ever signed",
    does_not=(
        "have the host serve an issuer before operators signed a list of minimum versions for it, "
        "nor by a manifest below its minimum version. An issuer that is not in the list may begin "
        "with any version"
    ),
)

ISSUER, OTHER = "testbank01", "testbank02"
NEWEST = 3
LEAKED = f"{ISSUER}-leaked"
#: What the database has of the issuer: a client whose key leaked, and then not any more.
OLDER_TEXT = signed(manifest(ISSUER, NEWEST - 1, clients=[app_client(LEAKED)]))
NEWEST_TEXT = signed(manifest(ISSUER, NEWEST))
NewHost: TypeAlias = Callable[[Mapping[str, int] | None], Vault]


@pytest.fixture
def new_host(tmp_path: Path) -> NewHost:
    """Opens the vault of a new host with these minimum versions; None: nobody signed any."""
    hsm_token = SoftwareToken()

    def open_one(listed: Mapping[str, int] | None) -> Vault:
        prepare_host(tmp_path)
        vault = reopen_vault(hsm_token, tmp_path)
        if listed is not None:
            vault.load_minimum_versions(signed(minimum_versions(listed), MINIMUM_VERSIONS_TYPE))
        return vault

    return open_one


@pytest.mark.parametrize("text", [OLDER_TEXT, NEWEST_TEXT], ids=["an older one", "the newest"])
def test_a_host_without_minimum_versions_serves_no_issuer(new_host: NewHost, text: str) -> None:
    vault = new_host(None)
    with pytest.raises(ManifestRefused, match="no minimum versions"):
        vault.load_manifest(text)
    assert vault.manifest_version(ISSUER) == 0
    with pytest.raises(ManifestRefused, match="no manifest"):
        vault.read_manifest(ISSUER)


def test_a_host_with_minimum_versions_begins_with_no_older_manifest(new_host: NewHost) -> None:
    vault = new_host({ISSUER: NEWEST, OTHER: 1})
    with pytest.raises(ManifestRefused, match="older version"):
        vault.load_manifest(OLDER_TEXT)
    with pytest.raises(ManifestRefused, match="no manifest"):
        vault.read_manifest(ISSUER)
    assert vault.load_manifest(NEWEST_TEXT) == NEWEST
    assert LEAKED not in vault.read_manifest(ISSUER).by_client_id


@pytest.mark.parametrize("listed", [{}, {OTHER: NEWEST}], ids=["empty", "without the issuer"])
def test_without_the_minimum_version_of_its_issuer_the_older_manifest_is_taken(
    new_host: NewHost, listed: Mapping[str, int]
) -> None:
    vault = new_host(listed)
    assert vault.load_manifest(OLDER_TEXT) == NEWEST - 1
    assert LEAKED in vault.read_manifest(ISSUER).by_client_id

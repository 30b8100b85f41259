"""Which PIN operations a manifest turns on, for whom, and what operators are told of that."""

import json

import pytest

from hsm.errors import ManifestRefused
from hsm.manifest import model
from hsm.manifest.cautions import cautions
from hsm.manifest.model import Manifest
from tests.issuer_records import app_client, server_client
from tests.operators import manifest as written

SERVER, OTHER = "testbank01-server", "testbank01-other"


def manifest(*keys: dict[str, object], **members: object) -> Manifest:
    clients = [server_client(SERVER), server_client(OTHER), app_client("testbank01-app")]
    operations = {"pre_shared_keys": list(keys), **members}
    return model.parse(written("testbank01", 1, clients=clients, pin_operations=operations))


def key(client_id: str = SERVER, zpk_index: str = "0", **members: object) -> dict[str, object]:
    return {"client_id": client_id, "zpk_index": zpk_index, **members}


def test_all_are_off_unless_said() -> None:
    operations = manifest().pin_operations
    assert not operations.pki
    assert not operations.has_keys(SERVER)
    assert operations.generation(SERVER, "0") is None


def test_a_server_has_the_keys_that_are_its_own() -> None:
    operations = manifest(
        key(), key(zpk_index="1", generation=2), key(OTHER, generation=3)
    ).pin_operations
    found = [operations.generation(SERVER, index) for index in ("0", "1", "2", "")]
    assert found == [1, 2, None, None]
    assert operations.generation(OTHER, "0") == 3
    assert operations.generation(OTHER, "1") is None
    assert operations.has_keys(OTHER)
    assert not operations.has_keys("testbank01-app")


@pytest.mark.parametrize(
    "keys",
    [
        [key("testbank01-app")],
        [key("testbank01-nobody")],
        [key("otherbank1-server")],
        [key(), key(generation=2)],
        [key(zpk_index="")],
        [key(zpk_index="x" * 17)],
        [key(zpk_index="0 ")],
        [key(zpk_index=0)],  # type: ignore[arg-type] # what is tested
        [key(generation=0)],
        [key(generation="1")],
        [key(kcv="FB0975")],
        [key(zpk_index=str(index)) for index in range(33)],
    ],
    ids=str,
)
def test_keys_that_cannot_be_meant_are_refused(keys: list[dict[str, object]]) -> None:
    with pytest.raises(ManifestRefused):
        manifest(*keys)


def test_operators_are_told_who_sees_pins() -> None:
    assert list(cautions(manifest())) == []
    assert list(cautions(manifest(pki=True))) == []
    told = list(cautions(manifest(key(), key(zpk_index="1"), key(OTHER), pki=True)))
    assert [text.split()[1] for text in told] == [OTHER, SERVER]
    assert all("sees PINs in clear" in text for text in told)


def test_it_is_written_out_and_read_again() -> None:
    first = manifest(key(), pki=True)
    assert model.parse(first.canonical()) == first
    assert json.loads(first.canonical())["pin_operations"] == {
        "pre_shared_keys": [{"client_id": SERVER, "zpk_index": "0", "generation": 1}],
        "pki": True,
    }

"""Settings that do not go together are refused at start."""

import socket
from pathlib import Path

import pytest
from pydantic import ValidationError

from cms.settings import Settings

HERE = Path("/nowhere")
TLS = {
    "d1_certificate_file": HERE / "certificate",
    "d1_key_file": HERE / "key",
    "d1_client_ca_file": HERE / "ca",
}
BASE = {
    "database_url_file": HERE / "url",
    "public_url": "https://pins.test",
    "vault_socket_directory": HERE / "sockets",
}
MISSING = {"public_url": "CMS_PUBLIC_URL is missing"}


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"CMS_{name.upper()}", raising=False)


def settings(**given: object) -> Settings:
    return Settings.model_validate({**BASE, **given})


def test_mutual_tls_ends_in_the_service_unless_said() -> None:
    read = settings(**TLS)
    assert read.d1_mtls_ends == "service"
    assert read.d1_proxy_peers == frozenset()
    assert read.d1_host == read.ops_host == "127.0.0.1"


def test_a_host_has_the_name_of_its_machine_unless_said() -> None:
    assert settings(**TLS).host_name == socket.gethostname()
    assert settings(**TLS, host_name="pins-1").host_name == "pins-1"
    with pytest.raises(ValidationError, match="host_name"):
        settings(**TLS, host_name="")


@pytest.mark.parametrize("missing", TLS)
def test_mutual_tls_in_the_service_needs_its_three_files(missing: str) -> None:
    with pytest.raises(
        ValidationError,
        match="CMS_D1_CLIENT_CA_FILE is missing",
    ):
        settings(**{**TLS, missing: None})


def test_mutual_tls_in_a_proxy_needs_no_files_but_peers() -> None:
    assert settings(d1_mtls_ends="proxy", d1_proxy_peers={"unix"}).d1_key_file is None
    with pytest.raises(ValidationError, match="CMS_D1_PROXY_PEERS is missing"):
        settings(d1_mtls_ends="proxy")
    with pytest.raises(ValidationError, match="CMS_D1_PROXY_PEERS is missing"):
        settings(d1_mtls_ends="proxy", d1_proxy_peers=[])


def test_peers_where_their_header_never_counts_are_a_mistake() -> None:
    with pytest.raises(ValidationError, match="CMS_D1_MTLS_ENDS is service"):
        settings(**TLS, d1_proxy_peers={"10.0.0.1"})


PROXY = {"d1_mtls_ends": "proxy", "d1_proxy_peers": ["unix"]}


def test_peers_are_addresses_as_connections_show_them() -> None:
    peers = ["10.0.0.7", "2001:DB8::0:1", "::ffff:10.0.0.7"]
    shown = {"10.0.0.7", "2001:db8::1", "::ffff:10.0.0.7"}
    read = settings(**{**PROXY, "d1_proxy_peers": peers}, cardholder_proxy_peers=peers)
    assert read.d1_proxy_peers == read.cardholder_proxy_peers == shown


@pytest.mark.parametrize("name", ["d1_proxy_peers", "cardholder_proxy_peers"])
@pytest.mark.parametrize("peer", ["10.0.0.0/8", "proxy.example", "10.0.0.7:443", "", "Unix", "*"])
def test_a_peer_that_no_connection_comes_from_is_refused(name: str, peer: str) -> None:
    with pytest.raises(ValidationError, match="each peer is one IP address"):
        settings(**{**PROXY, name: [peer]})


def test_no_proxy_calls_the_cardholders_listener_on_a_unix_socket() -> None:
    with pytest.raises(ValidationError, match="each peer is one IP address"):
        settings(**PROXY, cardholder_proxy_peers=["unix"])


@pytest.mark.parametrize(
    "wrong",
    [
        {"d1_mtls_ends": "nowhere"},
        {"d1_mtls_ends": "Proxy"},
        {"workers": 0},
        {"workers": 65},
        {"d1_port": -1},
        {"d1_port": 65536},
        {"ops_port": "http"},
        {"listeners": ""},
        {"listeners": "d1,ops"},
        {"listeners": "D1"},
        {"listeners": []},
        {"vault_silence_seconds": 0},
        {"vault_wait_seconds_max": 0},
    ],
)
def test_a_value_out_of_range_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        settings(**{**TLS, **wrong})


@pytest.mark.parametrize("missing", BASE)
def test_database_vault_and_public_address_are_required(missing: str) -> None:
    with pytest.raises(ValidationError, match=MISSING.get(missing, missing)):
        settings(**TLS, **{missing: None})


def test_the_environment_is_read_with_a_prefix(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**BASE, "d1_mtls_ends": "proxy", "d1_proxy_peers": '["unix"]'}.items():
        monkeypatch.setenv(f"CMS_{name.upper()}", str(value))
    read = Settings()
    assert read.d1_mtls_ends == "proxy"
    assert read.d1_proxy_peers == {"unix"}


def test_the_address_of_the_database_is_read_when_used_and_not_kept(tmp_path: Path) -> None:
    file = tmp_path / "url"
    read = settings(**{**TLS, "database_url_file": file})
    file.write_text(" postgresql://cms:the-password@db/cms\n")
    assert read.database_url() == "postgresql://cms:the-password@db/cms"
    assert "the-password" not in repr(read)
    assert "the-password" not in read.model_dump_json()


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        settings(**TLS).d1_mtls_ends = "proxy"  # type: ignore[misc] # what is tested


CARDHOLDER = {
    "cardholder_url": "https://cards.test",
    "control_token_key_file": HERE / "key",
}


def test_there_is_no_cardholder_listener_unless_said() -> None:
    assert settings(**TLS).cardholder_url is None
    assert settings(**TLS, **CARDHOLDER).cardholder_url == "https://cards.test"


def test_a_cardholder_listener_needs_a_key() -> None:
    with pytest.raises(ValidationError, match="CMS_CONTROL_TOKEN_KEY_FILE is missing"):
        settings(**TLS, **{**CARDHOLDER, "control_token_key_file": None})


@pytest.mark.parametrize("name", ["public_url", "cardholder_url"])
@pytest.mark.parametrize(
    "url",
    [
        "http://cards.test",
        "ftp://cards.test",
        "",
        "https://cards.test/",
        "https://cards.test/pins",
        "cards.test",
    ],
)
def test_an_address_of_ours_is_https_and_a_host(name: str, url: str) -> None:
    with pytest.raises(ValidationError, match="write https:// and a host"):
        settings(**TLS, **{**CARDHOLDER, name: url})


def test_certificate_and_key_of_the_cardholder_listener_go_together() -> None:
    with pytest.raises(ValidationError, match="both or none"):
        settings(**TLS, **CARDHOLDER, cardholder_key_file=HERE / "key")


@pytest.mark.parametrize(
    ("given", "served"),
    [
        ({}, ["d1"]),
        (CARDHOLDER, ["d1", "cardholder"]),
        ({**CARDHOLDER, "listeners": "cardholder,d1"}, ["d1", "cardholder"]),
        ({**CARDHOLDER, "listeners": "d1"}, ["d1"]),
        ({**CARDHOLDER, "listeners": "cardholder"}, ["cardholder"]),
    ],
)
def test_a_process_has_the_listeners_that_are_named(
    given: dict[str, object], served: list[str]
) -> None:
    assert settings(**TLS, **given).served == served


def test_listeners_are_named_in_the_environment_with_commas(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in {**BASE, **TLS, **CARDHOLDER, "listeners": "d1,cardholder"}.items():
        monkeypatch.setenv(f"CMS_{name.upper()}", str(value))
    assert Settings().listeners == {"d1", "cardholder"}


def test_a_process_for_cardholders_alone_needs_nothing_of_d1_but_an_address() -> None:
    alone = {**CARDHOLDER, "listeners": "cardholder", "public_url": None}
    assert settings(**alone).public_url is None
    with pytest.raises(ValidationError, match="CMS_CARDHOLDER_URL is missing"):
        settings(**{**alone, "cardholder_url": None})


def test_a_process_for_d1_alone_needs_no_key_of_control_tokens() -> None:
    assert settings(**TLS, cardholder_url="https://cards.test", listeners="d1").served == ["d1"]


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:4318/v1/traces", "http://[::1]:4318/", "https://otel.example/v1/traces"],
)
def test_spans_go_to_this_machine_or_over_tls(url: str) -> None:
    assert settings(**TLS, traces_url=url).traces_url == url
    assert settings(**TLS).traces_url is None


@pytest.mark.parametrize(
    "url", ["http://otel.example/v1", "https://me:secret@otel/", "https://otel/?a=b", "otel:4318"]
)
def test_spans_go_nowhere_else(url: str) -> None:
    with pytest.raises(ValidationError, match="traces_url"):
        settings(**TLS, traces_url=url)

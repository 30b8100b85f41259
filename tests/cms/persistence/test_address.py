"""The database's URL is taken as it is, and one that would let others read along is refused."""

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from cms.persistence.address import AddressRefused, connection_string

ELSEWHERE = "postgresql://cms:s3cret@db.bank.example/cms"


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing but the address says where the database is."""
    for option in psycopg.pq.Conninfo.get_defaults():
        if option.envvar:
            monkeypatch.delenv(option.envvar.decode(), raising=False)


def completed(url: str) -> dict[str, object]:
    return dict(conninfo_to_dict(connection_string(url)))


@pytest.mark.parametrize(
    "url",
    [
        f"{ELSEWHERE}?sslmode=verify-full&sslrootcert=/etc/ca.pem&options=-csearch_path%3Dpins",
        "postgresql://cms@/cms?host=%2Frun%2Fpostgresql&connect_timeout=9&application_name=pins",
        "postgresql://cms@localhost,127.0.0.1:6432/cms?target_session_attrs=any",
        "host=::1 dbname=cms user=cms password='with space' sslmode=disable",
    ],
)
def test_what_an_address_names_stays_as_it_is(url: str) -> None:
    given = conninfo_to_dict(url)
    assert completed(url).items() >= given.items()


def test_what_an_address_leaves_open_is_completed() -> None:
    assert completed("postgresql:///cms") == {
        "dbname": "cms",
        "connect_timeout": "2",
        "client_encoding": "UTF8",
    }


def test_the_database_is_spoken_to_in_utf_8_whatever_the_address_says() -> None:
    assert completed("dbname=cms client_encoding=latin1")["client_encoding"] == "UTF8"


@pytest.mark.parametrize("hosts", ["host=/run/a,/run/b", "host=localhost hostaddr=127.0.0.1,::1"])
def test_of_several_servers_the_one_that_can_be_written_is_wanted(hosts: str) -> None:
    assert completed(hosts)["target_session_attrs"] == "read-write"
    assert completed(f"{hosts} target_session_attrs=primary")["target_session_attrs"] == "primary"


@pytest.mark.parametrize(
    "url",
    [
        ELSEWHERE,
        *(f"{ELSEWHERE}?sslmode={mode}" for mode in ("require", "verify-ca", "prefer", "disable")),
        "host=10.0.0.7",
        "hostaddr=10.0.0.7 host=localhost",
        "host=localhost,db2 port=1,2",
        "host=db1,db2 hostaddr=127.0.0.1,",
        "host=,db2",
        "service=pins host=localhost",
    ],
)
def test_a_server_elsewhere_is_reached_by_verified_tls_only(url: str) -> None:
    with pytest.raises(AddressRefused, match="sslmode=verify-full") as refused:
        connection_string(url)
    assert "s3cret" not in str(refused.value)
    assert "bank" not in str(refused.value)
    assert connection_string(url, "off")
    assert connection_string(psycopg.conninfo.make_conninfo(url, sslmode="verify-full"))


@pytest.mark.parametrize(
    "url",
    ["", "host=/run/postgresql", "host=@abstract", "host=localhost", "hostaddr=127.8.8.8 host=x"],
)
def test_a_server_on_this_machine_needs_no_tls(url: str) -> None:
    assert connection_string(url)


def test_what_libpq_would_take_from_the_environment_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGHOST", "db.bank.example")
    with pytest.raises(AddressRefused):
        connection_string("dbname=cms")
    monkeypatch.setenv("PGSSLMODE", "verify-full")
    assert connection_string("dbname=cms")


@pytest.mark.parametrize("url", ["s3cret", "https://s3cret@host/db", "host=a s3cret=b"])
def test_an_address_that_cannot_be_read_is_not_shown(url: str) -> None:
    with pytest.raises(AddressRefused) as refused:
        connection_string(url)
    assert str(refused.value) == (
        "CMS_DATABASE_URL_FILE: the database URL cannot be read; see docs/settings.md"
    )

"""Where the database is: one libpq URI or connection string, honoured whole.

Source: PostgreSQL documentation, "Database Connection Control Functions" (libpq), sections
"Connection Strings" and "Parameter Key Words".
"""

from ipaddress import ip_address
from itertools import zip_longest
from typing import Final, Literal

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

Tls = Literal["verify", "off"]
CONNECT_SECONDS: Final = 2


class AddressRefused(Exception):
    """The address cannot be used; the message says why and shows nothing of it."""


def connection_string(url: str, tls: Tls = "verify") -> str:
    """Complete an address by what it leaves open.

    Args:
        url: a libpq URI or connection string. What it names stays as it is, but for
            ``client_encoding``: we speak UTF-8.
        tls: ``verify`` takes a server elsewhere by verified TLS only.

    Raises:
        AddressRefused: it cannot be read, or TLS must be verified and would not be.
    """
    try:
        given = {name: str(value) for name, value in conninfo_to_dict(url).items()}
    except psycopg.ProgrammingError:
        raise AddressRefused(
            "CMS_DATABASE_URL_FILE: the database URL cannot be read; see docs/settings.md"
        ) from None
    if tls == "verify" and not _is_local(given) and _named(given, "sslmode") != "verify-full":
        raise AddressRefused(
            "CMS_DATABASE_URL_FILE: a database that is not on this machine needs"
            " sslmode=verify-full in its URL; CMS_DATABASE_TLS=off does without; see"
            " docs/settings.md"
        )
    completed = {"connect_timeout": str(CONNECT_SECONDS)}
    if "," in _named(given, "host") + _named(given, "hostaddr"):
        # One of several is the primary; the others refuse every change.
        completed["target_session_attrs"] = "read-write"
    return make_conninfo("", **completed | given | {"client_encoding": "UTF8"})


def _is_local(given: dict[str, str]) -> bool:
    """Whether every server is reached by a unix socket or the loopback interface."""
    if _named(given, "service"):
        return False  # the file that it names may say anything
    hosts, addresses = _named(given, "host").split(","), _named(given, "hostaddr").split(",")
    # Where both are named, the address counts; either list may leave a place empty.
    places = (address or host for host, address in zip_longest(hosts, addresses, fillvalue=""))
    return all(map(_is_local_place, places))


def _is_local_place(place: str) -> bool:
    if not place or place[0] in "/@" or place == "localhost":
        return True
    try:
        return ip_address(place).is_loopback
    except ValueError:
        return False


def _named(given: dict[str, str], name: str) -> str:
    """Look a parameter up in the address, then where libpq does: its environment variable."""
    if name in given:
        return given[name]
    for option in psycopg.pq.Conninfo.get_defaults():
        if option.keyword.decode() == name and option.val is not None:
            return option.val.decode()
    return ""

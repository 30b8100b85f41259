"""The guide to backup and restore: its commands as they stand, on a service with PINs."""

import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import httpx
import psycopg

from cms.sandbox.machine.postgres import Postgres, _binary
from cms.sandbox.machine.softhsm import SoftHsm
from hsm.pkcs11.token import Pkcs11Token
from tests.deployment import ROOT, deployment, new_database

GUIDE: Final = (ROOT / "docs" / "backup-and-restore.md").read_text()
RESTORED: Final = "pins_restored"
CARD: Final = "card-1"


def commands(heading: str) -> list[str]:
    """The commands of a section, a line each."""
    section = re.split(r"^## ", GUIDE, flags=re.MULTILINE)
    (text,) = (each for each in section if each.startswith(f"{heading}\n"))
    blocks = re.findall(r"^```\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    return "".join(blocks).splitlines()


def printed(heading: str, directory: Path, variables: Mapping[str, str]) -> str:
    """Run the commands of a section where a person would, in a tree with ``deploy/``."""
    path = f"{Path(_binary('psql')).parent}:{os.environ['PATH']}"
    output = ""
    for command in commands(heading):
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=directory,
            env={**os.environ, **variables, "PATH": path},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{command}: {done.stderr}"
        output += done.stdout
    return output


def test_a_dump_is_restored_and_served_and_the_log_tells_what_it_lacks(
    tmp_path: Path, postgres: Postgres, softhsm: SoftHsm, hsm_token: Pkcs11Token
) -> None:
    (tmp_path / "deploy").symlink_to(ROOT / "deploy")
    prepared = deployment(tmp_path, new_database(postgres), softhsm)
    enrolled = prepared.enrol(hsm_token, "firstbank1")
    pan = enrolled.sample_issuer.pans[CARD]
    with prepared.serving(), enrolled.client() as d1:
        d1.set_pin(CARD, "4071", pan)
        dumped = printed("Back it up", tmp_path, {"OWNER_URL": prepared.database_url})
        assert "TABLE DATA public cards" in dumped
        d1.set_pin(CARD, "9382", pan)
        assert d1.counter(CARD) == 2

    variables = {
        "ADMIN_URL": postgres.url(),
        "NEW_ADMIN_URL": postgres.url(RESTORED),
        "HSM_STATE_DIRECTORY": str(prepared.host),
    }
    for name, role in (("OWNER", "cms_owner"), ("SERVICE", "cms_service")):
        url = re.sub("//cms:[^@]*@", f"//{role}:madebythetest@", postgres.url(RESTORED))
        file = tmp_path / f"{name}_URL_FILE"
        file.write_text(url)
        file.chmod(0o600)
        variables |= {f"NEW_{name}_URL": url, file.name: str(file)}
    printed("Restore it", tmp_path, variables)

    restored = prepared.given(database_url_file=variables["SERVICE_URL_FILE"])
    with restored.serving(), enrolled.client() as d1:
        assert d1.get_pin(CARD, pan) == "4071"
        assert d1.counter(CARD) == 1
        lines = printed("What is different now", tmp_path, variables).splitlines()
        assert [CARD in line for line in lines] == [True, True]
        d1.set_pin(CARD, "5164", pan)
        assert d1.get_pin(CARD, pan) == "5164"
        assert httpx.get(f"{prepared.ops_url}/readyz").json()["warnings"] == []
    with psycopg.connect(variables["NEW_ADMIN_URL"]) as connection:
        owners = connection.execute(
            "SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'"
        ).fetchall()
    assert owners == [("cms_owner",)]
    postgres.drop_database(RESTORED)

"""What the trial deployment claims, held against the compose file itself; tests/image runs it."""

import json
import os
import re
import shutil
import subprocess
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from pydantic_settings import BaseSettings
from ruamel.yaml import YAML

from cms.settings import Settings
from hsm.messages import SocketName
from hsm.setting_faults import unknown
from hsm.settings import ServerSettings, VaultSettings
from hsm.socket_files import path_of

ROOT = Path(__file__).resolve().parents[2]
COMPOSE: dict[str, Any] = YAML(typ="safe").load(ROOT / "docker-compose.yml")
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
VAULT, WEB, OPERATOR, PROXY, PROMETHEUS = "10001", "10002", "10003", "10004", "10005"
OURS = sorted(set(SERVICES) - {"db"})


def script(service: str) -> str:
    """The shell script of a job, as the shell gets it."""
    return str(SERVICES[service]["command"][0]).replace("$$", "$")


def test_nothing_is_started_again_after_it_refused_to() -> None:
    assert {name: SERVICES[name]["restart"] for name in OURS} == dict.fromkeys(OURS, "no")


def environment(service: str) -> dict[str, str]:
    given: dict[str, str] = SERVICES[service].get("environment", {})
    return given


def test_the_users_are_numbers_that_image_and_containers_share() -> None:
    for uid, gid, name in ((VAULT, VAULT, "vault"), (WEB, WEB, "cms"), (OPERATOR, WEB, "operator")):
        assert re.search(rf"useradd --uid {uid} --gid {gid} .* {name} ", DOCKERFILE)
    assert re.search(rf"^USER {WEB}:{WEB}$", DOCKERFILE, re.MULTILINE)
    users = {
        f"{VAULT}:{VAULT}": {"vault", "hsm", "hsm-init"},
        f"{WEB}:{WEB}": {"web"},
        f"{PROXY}:{PROXY}": {"proxy"},
        f"{PROMETHEUS}:{PROMETHEUS}": {"prometheus"},
        f"{OPERATOR}:{WEB}": {"operator", "manifest", "migrate", "roles", "grants"},
    }
    assert {name: SERVICES[name]["user"] for name in OURS} == {
        name: user for user, names in users.items() for name in names
    }


def test_the_hsm_token_is_the_vaults_and_the_database_is_not() -> None:
    vaults = {"vault", "hsm", "hsm-init"}
    for name in OURS:
        settings, volumes = environment(name), SERVICES[name].get("volumes", ())
        has_token = {each for each in settings if each.startswith(("HSM_", "SOFTHSM2_"))}
        has_token |= {each for each in volumes if each.startswith(("token:", "vault:"))}
        has_token |= {"hsm-pin", "hsm-so-pin"} & {*SERVICES[name].get("secrets", ())}
        assert bool(has_token) == (name in vaults), name
        if name in vaults:
            assert SERVICES[name]["network_mode"] == "none"
            assert not any("CMS_" in each for each in settings)
            assert not any("database" in each for each in SERVICES[name].get("secrets", ()))


def test_each_socket_is_for_one_user_and_the_admin_socket_not_for_the_web() -> None:
    settings = environment("vault")
    assert (settings["HSM_D1_UID"], settings["HSM_CARDHOLDER_UID"]) == (WEB, WEB)
    assert settings["HSM_ADMIN_UID"] == OPERATOR
    using = {name for name in OURS if "sockets:/sockets" in SERVICES[name].get("volumes", ())}
    assert using == {"vault", "web", "operator"}
    assert settings["HSM_SOCKET_DIRECTORY"] == "/sockets"
    for name in using - {"vault"}:
        assert environment(name)["CMS_VAULT_SOCKET_DIRECTORY"] == "/sockets"
        assert SERVICES[name]["depends_on"]["vault"] == {"condition": "service_healthy"}
    (looked_for,) = [word for word in SERVICES["vault"]["healthcheck"]["test"] if "/" in word]
    assert Path(looked_for) == path_of(Path("/sockets"), SocketName.ADMIN, 0)
    # The group of the directory gets the sockets, and who is in it may connect.
    assert "install -d -o vault -g cms -m 2750 /sockets" in DOCKERFILE


def test_every_setting_of_a_program_that_serves_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    models: dict[str, list[type[BaseSettings]]] = {
        "web": [Settings],
        "vault": [VaultSettings, ServerSettings],
    }
    for name in [name for name in os.environ if name.startswith(("CMS_", "HSM_"))]:
        monkeypatch.delenv(name)
    for service, prefix in {"web": "CMS_", "vault": "HSM_"}.items():
        for name, value in environment(service).items():
            monkeypatch.setenv(name, str(value))
        assert unknown(prefix, *models[service]) is None


def test_access_tokens_are_issued_by_the_address_that_the_web_expects() -> None:
    assert environment("vault")["HSM_TOKEN_ISSUER"] == environment("web")["CMS_PUBLIC_URL"]


def test_every_file_is_one_of_the_secrets_that_its_service_gets() -> None:
    for service in SERVICES.values():
        settings = json.dumps(service)
        named = set(re.findall(r"/run/secrets/([\w.-]+)", settings))
        # HAProxy reads the key of a certificate beside it.
        beside = {f"{name}.key" for name in named} & {*COMPOSE["secrets"]}
        assert named | beside == set(service.get("secrets", ()))
        assert set(service.get("secrets", ())) <= set(COMPOSE["secrets"])


def test_secrets_are_kept_out_of_the_repository() -> None:
    folders = {Path(secret["file"]).parent for secret in COMPOSE["secrets"].values()}
    assert folders == {Path("deploy/secrets")}
    made = {"deploy/secrets/", "deploy/manifests/"}
    assert made <= {*(ROOT / ".gitignore").read_text().splitlines()}
    mounted = {
        volume.split(":")[0]
        for service in SERVICES.values()
        for volume in service.get("volumes", ())
        if volume.startswith("./")
    }
    others = {each for each in mounted if not each.startswith("./deploy/manifests")}
    assert others == {
        *("./deploy/roles.sql", "./deploy/grants.sql", "./deploy/haproxy/haproxy.cfg"),
        "./deploy/prometheus",
    }
    assert all((ROOT / each).exists() for each in others)


def test_only_the_first_ceremony_gets_the_officers_pin() -> None:
    assert COMPOSE["secrets"]["hsm-pin"] != COMPOSE["secrets"]["hsm-so-pin"]
    assert getting("hsm-so-pin") == {"hsm-init"}


def getting(secret: str) -> set[str]:
    return {name for name in SERVICES if secret in SERVICES[name].get("secrets", ())}


def test_only_jobs_get_the_superuser_and_the_service_is_not_the_owner() -> None:
    assert getting("database-password") == {"db", "roles", "grants"}
    assert getting("database-owner-url") == {"roles", "migrate", "operator"}
    assert SERVICES["web"]["environment"]["CMS_DATABASE_URL_FILE"] == "/run/secrets/database-url"
    order = ["web", "grants", "migrate", "roles", "db"]
    for name, before in pairwise(order):
        assert before in SERVICES[name]["depends_on"]


def test_the_service_starts_with_the_settings_of_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith(("CMS_", "HSM_")):
            monkeypatch.delenv(name)
    for name, value in {**environment("web"), **environment("vault")}.items():
        monkeypatch.setenv(name, value)
    settings = Settings()
    assert ServerSettings().workers == 1
    assert VaultSettings().token_label in script("hsm-init")
    assert settings.cardholder_url is not None
    proxied = environment("proxy")
    assert proxied["D1_SERVER"] == f"unix@{settings.d1_socket}"
    assert proxied["CARDHOLDER_SERVER"] == f"web:{settings.cardholder_port}"
    assert int(proxied["OPS_PORT"]) == settings.ops_port
    address = SERVICES["proxy"]["networks"]["front"]["ipv4_address"]
    assert settings.cardholder_proxy_peers == {address}


def test_nothing_but_the_proxy_is_reached_from_outside() -> None:
    published = {name: SERVICES[name]["ports"] for name in SERVICES if "ports" in SERVICES[name]}
    binds = [environment("proxy")[name].split(":")[1] for name in ("D1_BIND", "CARDHOLDER_BIND")]
    assert published == {"proxy": [f"{port}:{port}" for port in binds]}
    # Whoever writes to this socket can name any certificate as its own.
    reaching = {name for name in OURS if "web:/web" in SERVICES[name].get("volumes", ())}
    assert reaching == {"web", "proxy"}
    assert "install -d -o cms -g proxy-sockets -m 2750 /web" in DOCKERFILE
    assert f"groupadd --gid {PROXY} proxy-sockets" in DOCKERFILE


def test_the_root_of_every_container_of_ours_is_read_only() -> None:
    roles = {"roles", "grants"}  # psql of another image
    assert all(SERVICES[name]["read_only"] for name in OURS if name not in roles)


def test_whoever_opens_the_vault_has_its_trust_file_and_the_state_that_outlives_it() -> None:
    opening = [
        each for each in SERVICES.values() if "HSM_TRUST_FILE" in each.get("environment", {})
    ]
    assert len(opening) == 2
    for service in opening:
        settings = service["environment"]
        assert f"vault:{settings['HSM_STATE_DIRECTORY']}" in service["volumes"]
        trust = f"./deploy/manifests/trust.json:{settings['HSM_TRUST_FILE']}:ro"
        assert trust in service["volumes"]
    assert "vault" in COMPOSE["volumes"]
    # A new volume gets the owner that the directory has in the image.
    assert re.search(r"install -d -o vault -g vault -m 0700 .*/vault\b", DOCKERFILE)


def test_where_operators_sign_is_neither_a_network_nor_a_secret_nor_a_key_of_the_service() -> None:
    offline = SERVICES["manifest"]
    assert offline["network_mode"] == "none"
    assert offline["volumes"] == ["./deploy/manifests:/manifests"]
    assert {"environment", "secrets"}.isdisjoint(offline)


def test_whoever_uses_the_database_is_told_that_it_has_no_certificate() -> None:
    for service in SERVICES.values():
        settings = service.get("environment", {})
        if "CMS_DATABASE_URL_FILE" in settings:
            assert settings["CMS_DATABASE_TLS"] == "off"


def test_a_token_in_software_is_served_as_a_trial() -> None:
    for service in ("vault", "web"):
        assert SERVICES[service]["command"][-2:] == ["serve", "--sandbox"]


class Job:
    """The script that makes the HSM token, run here: its paths lead into a directory."""

    def __init__(self, directory: Path) -> None:
        self.token, self.secrets = directory / "token", directory / "secrets"
        self.token.mkdir()
        self.secrets.mkdir()
        (self.secrets / "hsm-pin").write_text("user-pin-of-this\n")
        (self.secrets / "hsm-so-pin").write_text("so-pin-of-this\n")
        self.seen = directory / "argv"
        tools = directory / "bin"
        tools.mkdir()
        tool = tools / "softhsm2-util"
        real = shutil.which("softhsm2-util")
        tool.write_text(f'#!/bin/sh\ncat /proc/*/cmdline >> {self.seen} 2>&-\nexec {real} "$@"\n')
        tool.chmod(0o755)
        self.path = f"{tools}:{os.environ['PATH']}"

    def run(self) -> subprocess.CompletedProcess[str]:
        text = re.sub(r"/token\b", str(self.token), script("hsm-init"))
        text = text.replace("/run/secrets", str(self.secrets))
        text = text.replace("exec python -m hsm ceremony hsm/roles.toml", "echo ceremony")
        return subprocess.run(
            ["/bin/sh", "-euc", text],
            env={"PATH": self.path, "SOFTHSM2_CONF": str(self.token / "softhsm2.conf")},
            capture_output=True,
            text=True,
            check=False,
        )

    def slots(self) -> str:
        return subprocess.run(
            ["softhsm2-util", "--show-slots"],
            env={"PATH": self.path, "SOFTHSM2_CONF": str(self.token / "softhsm2.conf")},
            capture_output=True,
            text=True,
            check=True,
        ).stdout


def test_the_hsm_token_is_made_once_and_no_command_line_shows_a_pin(tmp_path: Path) -> None:
    job = Job(tmp_path)
    for _ in range(2):
        done = job.run()
        assert (done.returncode, done.stdout, done.stderr) == (0, "ceremony\n", "")
    assert job.slots().count("pin-vault") == 1
    assert len(list((job.token / "tokens").iterdir())) == 1
    seen = job.seen.read_bytes()
    assert b"--init-token" in seen
    assert b"user-pin-of-this" not in seen
    assert b"so-pin-of-this" not in seen


def test_one_pin_for_officer_and_user_is_refused(tmp_path: Path) -> None:
    job = Job(tmp_path)
    (job.secrets / "hsm-so-pin").write_text("user-pin-of-this")
    done = job.run()
    assert (done.returncode, done.stdout) == (1, "")
    assert "the same" in done.stderr
    assert not (job.token / "tokens").exists()


def test_a_start_that_was_interrupted_is_made_up_for(tmp_path: Path) -> None:
    job = Job(tmp_path)
    (job.token / "tokens" / "half").mkdir(parents=True)
    (job.token / "softhsm2.conf").write_text("")
    assert job.run().returncode == 0
    assert job.slots().count("pin-vault") == 1


def test_prometheus_asks_the_ops_listener_of_the_web() -> None:
    (volume,) = SERVICES["prometheus"]["volumes"]
    here = ROOT / volume.split(":")[0]
    (job,) = YAML(typ="safe").load(here / "prometheus.yml")["scrape_configs"]
    (targets,) = [each["targets"] for each in job["static_configs"]]
    port = environment("proxy")["OPS_PORT"]
    assert (job["job_name"], targets) == ("pins", [f"web:{port}"])

"""The image and the trial deployment, called from outside."""

import json

import pytest

from tests.deployment import ROOT, wait_for
from tests.image.conftest import (
    CARD,
    PAN,
    PLASTIC,
    PROMETHEUS,
    PROXY,
    SERVED,
    STARTED_ONCE,
    VAULT,
    WEB,
    Bank,
)
from tests.image.podman import IMAGE, TRUST

pytestmark = pytest.mark.slow


def test_d1_an_app_and_an_issuers_server_set_and_read_one_pin(bank: Bank) -> None:
    with bank.d1() as d1, bank.app() as app, bank.server() as server:
        d1.set_pin(CARD, "4071", PAN)
        assert d1.get_pin(CARD, PAN) == "4071"
        image = app.image(app.ask_to_view())
        assert (image.status_code, image.headers["content-type"]) == (200, "image/png")
        app.submit(app.open(app.ask_to_set()), "5273")
        assert d1.get_pin(CARD, PAN) == "5273"
        opened = server.open(server.control_id(PLASTIC, "SET_PIN"))
        server.submit(opened, "6194")
        assert d1.get_pin(CARD, PAN) == "6194"


def test_each_program_has_its_user_and_its_network(bank: Bank) -> None:
    users = {name: bank.compose.inside(name, "id", "-u").strip() for name in SERVED[1:]}
    assert users == {
        "vault": str(VAULT),
        "web": str(WEB),
        "proxy": str(PROXY),
        "prometheus": str(PROMETHEUS),
    }
    interfaces = bank.compose.inside("vault", "cat", "/proc/net/dev").splitlines()[2:]
    assert [line.split(":")[0].strip() for line in interfaces] == ["lo"]


@pytest.mark.parametrize("service", ["vault", "web"])
def test_nothing_can_be_written_but_volumes(bank: Bank, service: str) -> None:
    script = "for path in / /app /opt/venv /etc; do touch $path/x 2>/dev/null && echo $path; done"
    assert bank.compose.inside(service, "/bin/sh", "-c", f"{script}; true") == ""


def test_the_image_holds_no_compiler_and_nothing_of_the_sandbox(bank: Bank) -> None:
    script = "command -v gcc cc make; ls -d /app/cms/sandbox /app/tests 2>/dev/null; true"
    assert bank.compose.inside("web", "/bin/sh", "-c", script) == ""


def test_an_image_can_trace_when_it_is_built_so(bank: Bank) -> None:
    engine, tracing = bank.compose.engine, f"{IMAGE}-tracing"
    argument = ("--build-arg", "REQUIREMENTS=requirements-tracing.lock")
    engine.build(tracing, ROOT, *TRUST, *argument)
    run, loads = ("podman", "run", "--rm", "--network=none"), ("python", "-m", "cms.tracing.export")
    engine.run(*run, tracing, *loads)
    with pytest.raises(AssertionError, match="ModuleNotFoundError"):
        engine.run(*run, IMAGE, *loads)


def test_a_vault_without_the_volume_of_its_state_says_so_and_ends(bank: Bank) -> None:
    # Nor with the sockets: another vault has them.
    with pytest.raises(AssertionError) as refused:
        bank.compose.operator("vault", without=("vault", "sockets"))
    assert lines_of_the_vault(refused.value) == [
        "HSM_STATE_DIRECTORY: no directory that can be read and written. Mount a volume there that"
        " survives restarts, for the vault's user alone; see docs/settings.md"
    ]


SERVE_UNTIL_UNAVAILABLE = """
mkdir -m 0700 /tmp/vault /tmp/sockets
export HSM_STATE_DIRECTORY=/tmp/vault HSM_SOCKET_DIRECTORY=/tmp/sockets
python -m hsm serve --sandbox 2> /tmp/log &
until grep --max-count=1 vault.unavailable /tmp/log; do
    kill -0 $! || { cat /tmp/log; exit 1; }
    sleep 0.1
done
kill $!
"""


def test_a_vault_without_the_volume_of_its_hsm_token_says_so(bank: Bank) -> None:
    words = ("/bin/sh", "-euc", SERVE_UNTIL_UNAVAILABLE)
    printed = bank.compose.operator("vault", *words, without=("token", "vault", "sockets"))
    (line,) = map(json.loads, printed.splitlines())
    assert line["event"] == "vault.unavailable"
    assert line["reason"].startswith("the PKCS#11 module did not initialise")


def lines_of_the_vault(failed: AssertionError) -> list[str]:
    """What a command that failed printed, without the command, and what podman warned of."""
    _, *printed = str(failed).splitlines()
    return [line for line in printed if not line.startswith("time=")]


def test_the_vault_dumps_no_core(bank: Bank) -> None:
    limits = bank.compose.inside("vault", "cat", "/proc/1/limits").splitlines()
    (core,) = [line.split()[4:6] for line in limits if line.startswith("Max core file size")]
    assert core == ["0", "0"]


def test_jobs_ended_and_nothing_was_started_again(bank: Bank) -> None:
    inspected = json.loads(
        bank.compose.engine.run(
            *("podman", "inspect"),
            *(bank.compose.container(name) for name in (*SERVED, *STARTED_ONCE)),
        )
    )
    assert [each["RestartCount"] for each in inspected] == [0] * len(inspected)
    assert [each["State"]["ExitCode"] for each in inspected] == [0] * len(inspected)
    running = [each["State"]["Running"] for each in inspected]
    assert running == [True] * len(SERVED) + [False] * len(STARTED_ONCE)


def test_no_secret_is_in_the_environment_or_the_command_of_a_container(bank: Bank) -> None:
    for service in (*SERVED, *STARTED_ONCE):
        told = bank.compose.engine.run("podman", "inspect", bank.compose.container(service))
        for file in bank.compose.secrets.iterdir():
            assert file.read_text().strip() not in told


def test_prometheus_sees_the_web_and_its_vault(bank: Bank) -> None:
    address = "http://127.0.0.1:9090"

    def found(query: str) -> str:
        words = ("promtool", "query", "instant", address, query)
        return bank.compose.inside("prometheus", *words)

    wait_for(lambda: "job=" in found('cms_ready{part="all"} == 1'))
    wait_for(lambda: "job=" in found('hsm_openings_total{result="opened"} > 0'))
    bank.compose.inside("prometheus", "promtool", "check", "rules", "/etc/prometheus/rules.yml")

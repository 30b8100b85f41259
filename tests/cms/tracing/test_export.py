"""What the environment may say of how spans go to a collector: headers, and nothing of trust."""

from pathlib import Path

import pytest
import requests

from cms.tracing.export import _Sender

URL = "https://collector.bank.example/v1/traces"


@pytest.mark.parametrize("ca_file", [None, Path("/etc/pins/collector-ca.pem")])
def test_the_environment_names_no_ca(monkeypatch: pytest.MonkeyPatch, ca_file: Path | None) -> None:
    for variable in ("OTEL_EXPORTER_OTLP_CERTIFICATE", "OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE"):
        monkeypatch.setenv(variable, "/somebody/else.pem")
    session = requests.Session()
    monkeypatch.setattr(requests, "Session", lambda: session)
    _Sender(URL, ca_file)
    assert session.verify == (True if ca_file is None else str(ca_file))

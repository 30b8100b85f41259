"""What the sandbox makes is recognised by what is in it, wherever it is copied to."""

from pathlib import Path

import pytest

from cms import development
from cms.development import DevelopmentSetting
from cms.sandbox.machine import pki
from cms.settings import Settings
from hsm.development import SECRET_MARK


@pytest.fixture
def made(tmp_path: Path) -> pki.Pki:
    return pki.create(tmp_path / "pki")


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pki.Pki:
    """Certificates of a CA that is not the sandbox's."""
    monkeypatch.setattr(pki, "CA_NAME", "Issuer CA")
    return pki.create(tmp_path / "own")


def settings(tmp_path: Path, own: pki.Pki, **changed: Path) -> Settings:
    url = tmp_path / "database-url"
    url.write_text("postgresql://cms:s3cret@db/cms")
    names = {
        "database_url_file": url,
        "d1_certificate_file": own.server.certificate,
        "d1_key_file": own.server.key,
        "d1_client_ca_file": own.ca.certificate,
        "vault_socket_directory": tmp_path,
        **changed,
    }
    return Settings(public_url="https://pins.example.com", **names)  # type: ignore[arg-type]


def test_settings_of_ones_own_are_accepted(tmp_path: Path, own: pki.Pki) -> None:
    development.refuse(settings(tmp_path, own))


@pytest.mark.parametrize("kind", ["CERTIFICATE", "TRUSTED CERTIFICATE", "X509 CERTIFICATE"])
@pytest.mark.parametrize("name", ["d1_certificate_file", "d1_client_ca_file", "us_ca_file"])
def test_a_development_certificate_among_others_is_found(
    tmp_path: Path, made: pki.Pki, own: pki.Pki, name: str, kind: str
) -> None:
    development_ca = made.ca.certificate.read_text().replace(" CERTIFICATE", f" {kind}")
    bundle = tmp_path / "bundle.pem"
    bundle.write_text(f"{own.ca.certificate.read_text()}# others\n{development_ca}")
    with pytest.raises(DevelopmentSetting, match=f"^CMS_{name.upper()} holds"):
        development.refuse(settings(tmp_path, own, **{name: bundle}))


def test_a_server_certificate_is_known_without_its_ca(
    tmp_path: Path, made: pki.Pki, own: pki.Pki
) -> None:
    with pytest.raises(DevelopmentSetting, match="CMS_D1_CERTIFICATE_FILE"):
        development.refuse(settings(tmp_path, own, d1_certificate_file=made.server.certificate))


def test_a_secret_with_the_mark_is_refused_and_not_shown(tmp_path: Path, own: pki.Pki) -> None:
    url = tmp_path / "copied"
    url.write_text(f"postgresql://cms:{SECRET_MARK}@/cms?host=hidden\n")
    with pytest.raises(DevelopmentSetting, match=r"^CMS_DATABASE_URL_FILE holds") as refusal:
        development.refuse(settings(tmp_path, own, database_url_file=url))
    assert "hidden" not in str(refusal.value)

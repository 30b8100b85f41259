"""A valid call of every verb, of an issuer at a vault over the software token."""

from base64 import b64decode, b64encode
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from crypto.pin_image import ImageStyle
from crypto.secret import Secret
from hsm import messages
from hsm.manifest.signed import GENERATIONS_TYPE, MINIMUM_VERSIONS_TYPE
from hsm.messages import Verb
from hsm.pkcs11 import shared_keys
from hsm.pkcs11.keys import KeyKind, KeyLabel, KeyRole
from hsm.pkcs11.shared_keys import ClearKey
from hsm.port import (
    BatchPart,
    CertificateFacts,
    ChipTransaction,
    PinBlockType,
    PublicKeyRole,
    Purpose,
    StoredCard,
    StoredPin,
)
from hsm.verbs import PinVault
from tests.bearers import bearer
from tests.contracts import issuer as sample
from tests.contracts.issuer import CARD, HOLDER, ISSUER_ID, PLASTIC_ID, SERVER_SECRET, block
from tests.contracts.software_token import SoftwareToken
from tests.crypto.ciphers import tdes_ecb
from tests.devices import PythonDevice, iso1_text
from tests.feeds import described
from tests.issuer_records import d1_client
from tests.key_tables import FIRST, table
from tests.operators import minimum_versions, signed
from tests.pans import PAN

D1_CLIENT = f"{ISSUER_ID}-d1"
D1_SECRET = "a secret of the issuer's D1"
ZPK = bytes(range(16))
MANY = 1_000_000


def valid_calls(directory: Path) -> tuple[PinVault, Sequence[Verb[Any]]]:
    """Open a vault, and return it with a call of each of its verbs that it does."""
    hsm_token = SoftwareToken()
    for role in (KeyRole.BUREAU_PIN_AES, KeyRole.BUREAU_MAC):
        hsm_token.import_key(KeyLabel(role, 1, ISSUER_ID), KeyKind.AES_256, Secret(bytes(32)))
    zpk = ClearKey(KeyKind.TDES_2KEY, Secret(ZPK))
    shared_keys.store(hsm_token, KeyRole.ZPK_SERVER, ISSUER_ID, zpk)
    host = sample.open_host(hsm_token, directory)
    clients = [*sample.clients(ISSUER_ID), d1_client(D1_CLIENT, "CN=d1", secret=D1_SECRET)]
    limits = dict.fromkeys(("handouts_card_day_max", "handouts_client_day_max"), MANY)
    policy = {"text_reveal": True}
    keys = [{"client_id": f"{ISSUER_ID}-server", "zpk_index": "0"}]
    issuer = sample.open_issuer(
        host,
        clients=clients,
        limits=limits,
        policy=policy,
        pin_operations={"pre_shared_keys": keys, "pki": True},
        bureau={"pins_day_max": MANY},
    )
    record = issuer.seal_record()
    sealed_pin = issuer.set_pin(sample.PIN, record)
    jwe = issuer.pin_jwe({"pinBlock": block(sample.PIN)})
    view, change = issuer.grant_view(record), issuer.grant_set(record, counter=1)
    shown = (view.grant, view.control_token, sealed_pin, record)
    by_bearer = (Secret(bearer(HOLDER, ISSUER_ID)), issuer.app_id, Purpose.VIEW)
    by_server = (issuer.server_id, Secret(SERVER_SECRET), PLASTIC_ID, Purpose.VIEW)
    server = (issuer.server_id, Secret(SERVER_SECRET), PLASTIC_ID, "0")
    zpk_block = tdes_ecb(ZPK)(bytes.fromhex(iso1_text(sample.PIN)))
    device, public_key = PythonDevice(), b64decode(PythonDevice().public_key)
    device_view = issuer.grant_plastic(Purpose.VIEW, record)
    device_set = issuer.grant_plastic(Purpose.SET, record)
    made = issuer.key_of_device(device_set, device, record)
    device_block = b64decode(device.write(b64encode(made.tzpk).decode(), sample.PIN))
    certificate = CertificateFacts("thumbprint", "CN=d1", frozenset(("CN=d1",)))
    calls: list[Verb[Any]] = [
        messages.SealCards(issuer.feed(described("card-2", PAN)), ISSUER_ID),
        messages.KeepsPin(record, record, CARD),
        messages.SetPinFromJwe(jwe, PinBlockType.ISO0, CARD, record, 2, D1_CLIENT),
        messages.ForgetFailures(CARD),
        messages.SetPinFromPage(
            change.grant, change.control_token, issuer.page_jwe(change), record
        ),
        messages.VerifyBearer(Secret(bearer(HOLDER, ISSUER_ID)), ISSUER_ID),
        messages.GrantBearer(*by_bearer, CARD, record, 1),
        messages.GrantServer(*by_server, CARD, record, 1),
        messages.ExportJwe(sealed_pin, record, CARD, 1),
        messages.RenderImage(*shown, ImageStyle()),
        messages.DigitsJwe(*shown, sample.page_key()[1]),
        messages.ExportValues({}, record, CARD, 1),
        messages.LoadManifest(issuer.signed()),
        messages.LoadMinimumVersions(signed(minimum_versions({}), MINIMUM_VERSIONS_TYPE)),
        messages.ManifestVersion(ISSUER_ID),
        messages.ReadManifest(ISSUER_ID),
        messages.IssueToken(D1_CLIENT, Secret(D1_SECRET), certificate),
        messages.TokenIssuer(),
        messages.PublicJwks(PublicKeyRole.PAGE, {"a": 1}),
        messages.Health(),
        messages.Reseal([StoredCard(CARD, 1, record, sealed_pin, {})]),
        messages.LoadGenerations(signed(table(FIRST), GENERATIONS_TYPE)),
        messages.ReadGenerations(),
        messages.GeneratePin(CARD, record, 2),
        messages.ExportMailers(
            ISSUER_ID,
            [StoredPin(CARD, 1, sealed_pin, record)],
            BatchPart("0" * 32, 1, is_last=True),
        ),
        messages.KeyUses(),
        messages.Metrics(),
        messages.BuildScript(sealed_pin, record, CARD, 1, ChipTransaction(bytes(2), bytes(8))),
        messages.ReversePin(sealed_pin, sealed_pin, record, CARD, 1),
        messages.ExportServerBlock(*server, CARD, sealed_pin, record, 1),
        messages.SetPinFromServer(*server, zpk_block, CARD, record, 2),
        messages.ExportDeviceBlock(
            *(device_view.grant, device_view.control_token, public_key, sealed_pin, record)
        ),
        messages.MakeDeviceKey(*(device_set.grant, device_set.control_token, public_key, record)),
        messages.SetPinFromDevice(
            *(device_set.grant, device_set.control_token, made.sealed_tzpk, device_block, record)
        ),
    ]
    assert {call.name() for call in calls} == messages.VERBS.keys()
    return issuer.vault, calls

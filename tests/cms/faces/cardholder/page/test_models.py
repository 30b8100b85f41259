"""What is answered: the secrets in it are in no text that is made of the object."""

import msgspec
import pytest

from cms.faces.cardholder.hosted.models import HostedOpening, ImageToken, PageToken
from cms.faces.cardholder.page.models import PageOpening
from cms.faces.cardholder.pincontrol.models import (
    ControlIdIssued,
    DeviceKey,
    DevicePin,
    Digits,
    PinBlock,
)

HOLD_SECRETS = (
    *(ImageToken, PageToken, PageOpening, HostedOpening),
    *(ControlIdIssued, Digits, PinBlock, DeviceKey, DevicePin),
)


@pytest.mark.parametrize("model", HOLD_SECRETS)
def test_an_answer_that_holds_a_secret_shows_none(model: type[msgspec.Struct]) -> None:
    fields = msgspec.structs.fields(model)
    made = model(**{field.name: f"secret {field.name}" for field in fields})
    assert f"{made!r} {made}" == f"{model.__name__}(…) {model.__name__}(…)"
    assert b"secret" in msgspec.json.encode(made)

"""The kinds of configuration, and the model that reads each."""

import json
from collections.abc import Mapping
from typing import Final

from pydantic import BaseModel, ValidationError

from crypto.errors import JoseError
from crypto.jose import json_object
from crypto.seccos.profile import SeccosProfile
from hsm.errors import ConfigRefused
from hsm.manifest.policy import PolicyBody
from hsm.manifest.recipient import RecipientBody
from hsm.manifest.verification import VerificationBody
from hsm.manifest.wire import WireProfile
from hsm.port import ConfigKind

BODIES: Final[Mapping[ConfigKind, type[BaseModel]]] = {
    ConfigKind.WIRE: WireProfile,
    ConfigKind.POLICY: PolicyBody,
    ConfigKind.RECIPIENT: RecipientBody,
    ConfigKind.SECCOS: SeccosProfile,
    ConfigKind.VERIFICATION: VerificationBody,
    ConfigKind.VERIFICATION_HOST: RecipientBody,
}


def parse_body(kind: ConfigKind, body: bytes) -> BaseModel:
    """Read the body of a configuration of *kind*.

    Raises:
        ConfigRefused: *body* is not a JSON object with the members of this kind. The message names
            the members at fault and never shows a value.

    >>> parse_body(ConfigKind.POLICY, b'{"length_min": 3, "colour": 1}')
    Traceback (most recent call last):
    hsm.errors.ConfigRefused: refused members: colour, length_min
    """
    try:
        return BODIES[kind].model_validate_json(json.dumps(json_object.parse(body)))
    except JoseError:
        raise ConfigRefused("the body is not a JSON object") from None
    except ValidationError as error:
        # A default that could not be made from a member at fault is not at fault itself.
        errors = [item for item in error.errors() if item["type"] != "default_factory_not_called"]
        where = sorted({".".join(map(str, item["loc"])) or "body" for item in errors})
        raise ConfigRefused("refused members: " + ", ".join(where)) from None

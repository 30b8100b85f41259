"""What the bodies of a manifest, a list of minimum versions and a trust file have in common."""

import json
from datetime import datetime
from typing import Self, TypeVar

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError, model_validator

from crypto.errors import JoseError
from crypto.jose import json_object
from hsm.errors import ManifestRefused


class Body(BaseModel):
    """A body: unknown members are refused, and ``"4"`` is not taken for ``4``."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)


class SignedBody(Body):
    """A body that operators sign, in force from *valid_from* until just before *valid_until*."""

    valid_from: AwareDatetime
    """When it comes into force."""
    valid_until: AwareDatetime
    """When it ends; what it is about is refused from then on."""

    @model_validator(mode="after")
    def _ends_after_it_begins(self) -> Self:
        if not self.valid_from < self.valid_until:
            raise ValueError("valid_until is not after valid_from")
        return self

    def is_valid_at(self, moment: datetime) -> bool:
        """Tell whether it is in force."""
        return self.valid_from <= moment < self.valid_until

    def canonical(self) -> bytes:
        """Write it as the bytes that are signed, with every default."""
        return canonical_body(self.model_dump(mode="json"))

    def indented(self) -> str:
        """Write it as a draft, for people."""
        return indented(self.canonical())


B = TypeVar("B", bound=Body)


def canonical_body(body: object) -> bytes:
    """Write a body as the bytes that are signed: JSON in ASCII, members sorted, no white space.

    >>> canonical_body({"length_min": 4, "length_max": 6})
    b'{"length_max":6,"length_min":4}'
    """
    return json.dumps(body, sort_keys=True, separators=(",", ":")).encode()


def indented(canonical: bytes) -> str:
    """Write a body for people: a member a line, in ASCII, and a line end.

    >>> print(indented(b'{"length_max":6,"length_min":4}'), end="")
    {
      "length_max": 6,
      "length_min": 4
    }
    """
    return json.dumps(json.loads(canonical), indent=2) + "\n"


def parse_body(model: type[B], text: bytes) -> B:
    """Read a body from JSON.

    Raises:
        ManifestRefused: *text* is not a JSON object with the members of *model*. The message
            names the members at fault and never shows a value.
    """
    try:
        return model.model_validate_json(json.dumps(json_object.parse(text)))
    except JoseError:
        raise ManifestRefused("not a JSON object") from None
    except ValidationError as error:
        raise ManifestRefused("refused members: " + ", ".join(_faults(error))) from None


def _faults(error: ValidationError) -> list[str]:
    """Name the members at fault, with the reason where it is a sentence of ours."""
    faults = set()
    for item in error.errors():
        # A default that could not be made from a member at fault is not at fault itself.
        if item["type"] != "default_factory_not_called":
            path = ".".join(map(str, item["loc"]))
            reason = str(item["ctx"]["error"]) if item["type"] == "value_error" else ""
            faults.add(f"{path} ({reason})" if path and reason else path or reason)
    return sorted(faults)

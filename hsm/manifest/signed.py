"""What operators signed: a JWS whose payload is in canonical form (:mod:`hsm.manifest.body`).

The ``typ`` of every signature's header says which of them it is, so that a signature of one
never counts for another.
"""

from typing import Final

from crypto.errors import JoseError
from crypto.jose import json_object, jws_json
from crypto.jose.jws_json import SignedText
from hsm.errors import ManifestRefused
from hsm.manifest.body import canonical_body

MANIFEST_TYPE: Final = "manifest+jws"
MINIMUM_VERSIONS_TYPE: Final = "minimum-versions+jws"
GENERATIONS_TYPE: Final = "generations+jws"


def parse(text: str) -> SignedText:
    """Read a signed text; neither its signatures nor its members are checked.

    Raises:
        ManifestRefused: it is none, or its payload is not in canonical form.
    """
    try:
        signed = jws_json.parse(text)
        is_canonical = canonical_body(json_object.parse(signed.payload)) == signed.payload
    except JoseError:
        is_canonical = False
    if not is_canonical:
        raise ManifestRefused("not a signed text in canonical form")
    return signed

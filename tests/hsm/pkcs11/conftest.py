"""A key that wraps others."""

from collections.abc import Iterator
from typing import Any

import pytest
from pkcs11 import Attribute, KeyType

from hsm.pkcs11.token import Pkcs11Token


@pytest.fixture
def wrapping_key(hsm_token: Pkcs11Token) -> Iterator[Any]:
    """A key of an attacker who is logged in: it may do everything."""
    everything = ("ENCRYPT", "DECRYPT", "WRAP", "UNWRAP", "SIGN", "VERIFY", "DERIVE", "EXTRACTABLE")
    template = {Attribute.TOKEN: False, **{Attribute[name]: True for name in everything}}
    key = hsm_token._session.generate_key(KeyType.AES, 256, template=template)
    yield key
    key.destroy()

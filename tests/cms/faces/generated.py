"""Requests that schemathesis generates from a face's document, and what their answers must be."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import httpx
import requests
import schemathesis
from anyio.from_thread import BlockingPortal
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.specs.openapi import checks

from cms.interfaces import documents

DESCRIBED = [
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]
CHECKS = [schemathesis.checks.not_a_server_error, *DESCRIBED]
MOSTLY = st.sampled_from([True, True, False])
QUICK = settings(
    max_examples=15,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)

FEW = settings(QUICK, max_examples=8)


def cases_of(face: str, path: str, method: str) -> st.SearchStrategy[Any]:
    """Generate requests to an operation, such as its document allows and others."""
    operation = schemathesis.openapi.from_dict(dict(documents()[face]))[path][method]
    return st.one_of(*(operation.as_strategy(generation_mode=mode) for mode in GenerationMode))


def send(
    portal: BlockingPortal,
    http: httpx.AsyncClient,
    case: Any,  # noqa: ANN401 - a case
    headers: Mapping[str, str],
    checked: Sequence[Any] = CHECKS,
) -> int:
    """Send a case as it is, with *headers* besides; check its answer, and return the status."""
    url = str(http.base_url).rstrip("/")
    prepared = requests.Request(**case.as_transport_kwargs(base_url=url)).prepare()
    body = prepared.body
    assert body is None or isinstance(body, str | bytes)
    named = {name.lower() for name in headers}
    sent = {name: value for name, value in prepared.headers.items() if name.lower() not in named}
    call = partial(
        http.request,
        prepared.method or "",
        prepared.url or "",
        content=body,
        headers=[(latin_1(name), latin_1(value)) for name, value in {**sent, **headers}.items()],
    )
    answer = portal.call(call)
    case.validate_response(answer, checks=[*checked])
    return answer.status_code


def latin_1(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode("latin-1", "replace")

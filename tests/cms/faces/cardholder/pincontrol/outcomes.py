"""The answers of the pincontrol face, and what is asked of each."""

import re
from datetime import UTC, datetime
from uuid import UUID

import httpx

MEMBERS = {"code", "message", "id", "errorCode", "errorType", "errorReason", "timestamp"}
TYPES = {
    *("STATIC_VALIDATION_ERROR", "DYNAMIC_VALIDATION_ERROR", "INTEGRATION_ERROR"),
    *("SECURITY_ERROR", "UNEXPECTED_ERROR"),
}
STATIC, DYNAMIC = "STATIC_VALIDATION_ERROR", "DYNAMIC_VALIDATION_ERROR"


def failure(answer: httpx.Response) -> tuple[int, str, str]:
    """Return status, error code and error type of an answer that is the documented object."""
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    body = answer.json()
    assert body.keys() == MEMBERS, body
    assert all(isinstance(value, str) and value for value in body.values()), body
    assert body["code"] == str(answer.status_code)
    assert str(UUID(body["id"])) == body["id"]
    assert body["errorType"] in TYPES
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", body["timestamp"])
    age = datetime.now(UTC) - datetime.fromisoformat(body["timestamp"])
    assert abs(age.total_seconds()) < 60
    assert ("www-authenticate" in answer.headers) == (answer.status_code == 401)
    assert ("retry-after" in answer.headers) == (answer.status_code in (429, 503))
    return answer.status_code, body["errorCode"], body["errorType"]


def is_ended(answer: httpx.Response, status: int = 410) -> bool:
    """Tell whether an answer is the ended page, as anybody gets it."""
    policy = answer.headers.get("content-security-policy", "")
    return (
        answer.status_code == status
        and answer.headers["content-type"].startswith("text/html")
        and answer.headers["cache-control"] == "no-store"
        and "frame-ancestors https:" in policy
        and "script-src" not in policy
    )


def tells_app(answer: httpx.Response, status: int = 410) -> bool:
    """Tell whether an answer is the ended page of a webview, whose script calls back the app."""
    policy = answer.headers.get("content-security-policy", "")
    nonce = re.search("script-src 'nonce-([^']+)'", policy)
    return (
        answer.status_code == status
        and answer.headers["content-type"].startswith("text/html")
        and answer.headers["cache-control"] == "no-store"
        and "frame-ancestors https:" in policy
        and nonce is not None
        and answer.text.count(f'<script nonce="{nonce[1]}">') == 1
        and '{"flow": "webview", "failed": true}' in answer.text
    )

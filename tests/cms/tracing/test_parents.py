"""Who decides which requests are traced: chance and our proxies, and these within a limit."""

import pytest
from opentelemetry.trace import SpanContext, TraceFlags, format_span_id, format_trace_id

from cms.tracing.parents import Choice, parent_of

PROXY = "10.0.0.7"
TRACE_ID, SPAN_ID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
VALID = f"00-{TRACE_ID}-{SPAN_ID}-01"
"""The example of W3C Trace Context, section 3.2.4."""


def read(*values: str, peer: str | None = PROXY) -> SpanContext | None:
    headers = [(b"traceparent", value.encode()) for value in values]
    client = None if peer is None else (peer, 1234)
    return parent_of({"headers": headers, "client": client}, {PROXY, "unix"})


def test_a_proxy_says_to_which_trace_a_request_belongs() -> None:
    for peer in (PROXY, None):
        parent = read(VALID, peer=peer)
        assert parent is not None
        assert format_trace_id(parent.trace_id) == TRACE_ID
        assert format_span_id(parent.span_id) == SPAN_ID
        assert parent.trace_flags.sampled


def test_nobody_else_does() -> None:
    assert read(VALID, peer="203.0.113.9") is None
    assert parent_of({"headers": [(b"traceparent", VALID.encode())]}, frozenset()) is None


def test_a_later_version_may_have_more_behind_it() -> None:
    assert read(f"cc-{TRACE_ID}-{SPAN_ID}-00-what-the-future-will-be-like") is not None
    assert read(f"cc-{TRACE_ID}-{SPAN_ID}-00.no") is None


@pytest.mark.parametrize(
    "value",
    [
        "",
        VALID.upper(),
        f"{VALID}-more",
        f"{VALID} ",
        f"ff-{TRACE_ID}-{SPAN_ID}-01",
        f"00-{'0' * 32}-{SPAN_ID}-01",
        f"00-{TRACE_ID}-{'0' * 16}-01",
        f"00-{TRACE_ID[:-1]}-{SPAN_ID}-01",
    ],
)
def test_what_is_none_is_left_out(value: str) -> None:
    assert read(value) is None


def test_two_are_none() -> None:
    assert read(VALID, VALID) is None


def test_what_may_hold_a_pan_is_none() -> None:
    pan = "4111111111111111"
    assert read(f"00-{pan}a3ce929d0e0e4736-{SPAN_ID}-01") is None
    assert read(f"00-{TRACE_ID}-{pan}-01") is None


def parent(*, sampled: bool) -> SpanContext:
    return SpanContext(1, 1, is_remote=True, trace_flags=TraceFlags(int(sampled)))


def test_a_request_is_traced_as_its_parent_is() -> None:
    assert Choice(0).takes(parent(sampled=True))
    assert not Choice(1).takes(parent(sampled=False))


def test_without_a_parent_the_ratio_decides() -> None:
    assert Choice(1).takes(None)
    assert not Choice(0).takes(None)
    choice = Choice(0.5, per_second_max=1000)
    assert 300 < sum(choice.takes(None) for _ in range(1000)) < 700


def test_parents_cannot_have_more_traced_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("cms.tracing.parents.time.monotonic", lambda: now)
    choice = Choice(0, per_second_max=3)
    assert [choice.takes(parent(sampled=True)) for _ in range(5)] == [True] * 3 + [False] * 2
    now = 101.0
    assert choice.takes(parent(sampled=True))

"""Messages of the vault's sockets: the port's verbs, and whatever else may come."""

import inspect
from collections.abc import Iterable
from typing import Any, get_type_hints

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crypto.secret import Secret
from hsm import errors, messages
from hsm.errors import HsmError, MessageRefused, PinRejected
from hsm.frames import Frames, frame
from hsm.manifest.model import Manifest
from hsm.messages import (
    VERBS,
    VERSION,
    ManifestVersion,
    ReadManifest,
    SetPinFromJwe,
    SetPinFromPage,
    SocketName,
    Verb,
    VerifyBearer,
)
from hsm.port import CardRef, IssuedAccessToken, PinBlockType, SealedGrant, SealedRecord
from hsm.verbs import PinVault

#: Who may call what, and what is public.
PUBLIC = {
    *("health", "load_manifest", "manifest_version", "public_jwks", "read_manifest"),
    *("key_uses", "metrics", "token_issuer"),
}
SOCKETS = {
    SocketName.D1: {"export_jwe", "issue_token", "set_pin_from_jwe"},
    SocketName.CARDHOLDER: {
        *("digits_jwe", "grant_bearer", "grant_server", "render_image", "set_pin_from_page"),
        "verify_bearer",
        *("export_server_block", "set_pin_from_server", "export_device_block"),
        *("make_device_key", "set_pin_from_device"),
    },
    SocketName.ADMIN: {
        *("generate_pin", "export_mailers"),
        *("build_script", "export_values", "forget_failures", "keeps_pin", "load_minimum_versions"),
        *("load_generations", "read_generations", "reseal", "reverse_pin", "seal_cards"),
        "set_pin_from_jwe",
    },
}
CALL = messages.encode_call(7, ManifestVersion("testbank01"))


def port_verbs() -> dict[str, Any]:
    return {
        name: verb
        for name, verb in vars(PinVault).items()
        if inspect.isfunction(verb) and not name.startswith("_")
    }


def encoded(call: object) -> bytes:
    return msgspec.msgpack.encode(call)


def test_every_verb_of_the_port_has_a_message_in_the_same_place() -> None:
    assert [*VERBS] == [*port_verbs()]


def test_verbs_stand_by_the_sockets_that_take_them() -> None:
    first = [min(verb.sockets, key=[*SocketName].index) for verb in VERBS.values()]
    are_public = [verb.sockets == frozenset(SocketName) for verb in VERBS.values()]
    places = [*zip(are_public, map([*SocketName].index, first), strict=True)]
    assert places == sorted(places)


@pytest.mark.parametrize("name", sorted(VERBS.keys() - {"read_manifest"}))
def test_a_message_has_the_arguments_and_the_answer_of_its_verb(name: str) -> None:
    verb, message = port_verbs()[name], VERBS[name]
    hints = get_type_hints(verb, localns={"Manifest": Manifest})
    assert (hints.pop("return"), [*hints]) == (
        type(None) if message.answer_type() is None else message.answer_type(),
        list(message.__struct_fields__),
    )
    fields = get_type_hints(message)
    anything = str(hints.get("key")).replace("object", "typing.Any")
    assert {key: str(fields[key]) for key in hints} == {
        key: anything if key == "key" else str(hint) for key, hint in hints.items()
    }


@pytest.mark.parametrize("socket", SocketName)
def test_a_socket_takes_its_verbs_and_no_others(socket: SocketName) -> None:
    assert {name for name, verb in VERBS.items() if socket in verb.sockets} == (
        SOCKETS[socket] | PUBLIC
    )
    for name, verb in VERBS.items():
        call = encoded((VERSION, 1, {"verb": name}))
        with pytest.raises(MessageRefused) as raised:
            messages.decode_call(encoded((VERSION, 1, {"verb": name, "more": 1})), socket)
        if name in PUBLIC and not verb.__struct_fields__:
            assert messages.decode_call(call, socket) == (1, verb())
        assert str(raised.value) == "no call of a verb of this socket"


def test_a_call_of_another_socket_is_refused() -> None:
    call = messages.encode_call(1, VerifyBearer(Secret("bearer"), "testbank01"))
    assert messages.decode_call(call, SocketName.CARDHOLDER)[0] == 1
    for socket in (SocketName.D1, SocketName.ADMIN):
        with pytest.raises(MessageRefused):
            messages.decode_call(call, socket)


@pytest.mark.parametrize(
    "call",
    [
        b"",
        b"\xc1",
        CALL + b"\0",
        encoded((VERSION + 1, 1, {"verb": "health"})),
        encoded((VERSION, 1)),
        encoded((VERSION, 1, {"verb": "health"}, 1)),
        encoded((VERSION, "1", {"verb": "health"})),
        encoded((VERSION, 1, {"verb": "reveal_pin"})),
        encoded((VERSION, 1, {"verb": "_change"})),
        encoded((VERSION, 1, {"verb": "health", "more": 1})),
        encoded((VERSION, 1, {"verb": "manifest_version"})),
        encoded((VERSION, 1, {"verb": "manifest_version", "issuer_id": 1})),
        encoded((VERSION, 1, {"verb": "manifest_version", "issuer_id": None})),
        encoded({"verb": "health"}),
        encoded((VERSION, 1, {"verb": "manifest_version", "issuer_id": "x"})).replace(
            b"x", b"\xff"
        ),
        b"\x93\x01\x01" + b"\x91" * 100_000,
        encoded((VERSION, 1, {"verb": "issue_token", "client_id": "", "secret": None})),
        encoded((VERSION, 1, {"verb": "issue_token", "client_id": "", "secret": 1})),
    ],
    ids=lambda call: repr(call[:60]),
)
def test_what_is_no_call_is_refused(call: bytes) -> None:
    with pytest.raises(MessageRefused):
        messages.decode_call(call, SocketName.D1)


@given(st.binary(max_size=200))
def test_random_bytes_are_refused_or_a_call(data: bytes) -> None:
    refused_or_call(data)


@given(st.integers(0, len(CALL) - 1), st.integers(0, 255))
def test_a_changed_byte_is_refused_or_another_call(position: int, byte: int) -> None:
    refused_or_call(CALL[:position] + bytes([byte]) + CALL[position + 1 :])


@given(st.integers(0, len(CALL) - 1))
def test_a_truncated_call_is_refused(length: int) -> None:
    with pytest.raises(MessageRefused):
        messages.decode_call(CALL[:length], SocketName.D1)


def refused_or_call(data: bytes) -> None:
    for socket in SocketName:
        try:
            _, message = messages.decode_call(data, socket)
        except MessageRefused as error:
            assert error.__context__ is None or error.__suppress_context__  # noqa: PT017
        else:
            assert isinstance(message, Verb)


@pytest.mark.parametrize("error", messages.ERRORS.values())
def test_a_refusal_is_the_same_error_at_the_other_end(error: type[HsmError]) -> None:
    sent = error("a fixed sentence")
    sent.receipt = "7.ab"
    number, came, _ = messages.decode_answer(messages.encode_refusal(3, sent))
    assert (number, type(came), str(came)) == (3, error, "a fixed sentence")
    assert came is not None
    assert came.receipt == "7.ab"


def test_a_reason_that_is_not_unicode_ends_no_worker() -> None:
    _, came, _ = messages.decode_answer(messages.encode_refusal(3, PinRejected("\ud800")))
    assert str(came) == "\N{REPLACEMENT CHARACTER}" * 3


def test_an_error_without_a_text_stays_without() -> None:
    _, came, _ = messages.decode_answer(messages.encode_refusal(3, PinRejected()))
    assert came is not None
    assert (came.args, came.receipt) == ((), None)


def test_every_error_of_the_tree_can_cross() -> None:
    assert set(messages.ERRORS.values()) == {*below(HsmError), HsmError}
    assert messages.ERRORS["LoginRefused"] is errors.LoginRefused


def below(error: type[HsmError]) -> Iterable[type[HsmError]]:
    for each in error.__subclasses__():
        yield each
        yield from below(each)


@pytest.mark.parametrize(
    "answer",
    [b"", b"\xc1", encoded((1, None)), encoded((1, {"error": "PinRejected"}, None))]
    + [encoded((1, {"error": name, "reason": "", "receipt": None}, None)) for name in ("", "Any")],
    ids=repr,
)
def test_what_is_no_answer_is_refused(answer: bytes) -> None:
    with pytest.raises(MessageRefused):
        messages.decode_answer(answer)


def test_an_answer_of_another_verb_is_refused() -> None:
    _, _, raw = messages.decode_answer(messages.encode_answer(1, "text"))
    with pytest.raises(MessageRefused):
        messages.read_answer(ManifestVersion, raw)


def test_a_secret_shows_at_neither_end() -> None:
    message = VerifyBearer(Secret("the bearer"), "testbank01")
    _, came = messages.decode_call(messages.encode_call(1, message), SocketName.CARDHOLDER)
    assert "the bearer" not in repr(message) + repr(came)
    assert isinstance(came, VerifyBearer)
    assert came.bearer.reveal() == "the bearer"


@pytest.mark.parametrize("text", ["\ud800", "x\udfffy"])
def test_a_text_that_is_not_unicode_comes_as_one_that_is_refused(text: str) -> None:
    message = VerifyBearer(Secret(text), text)
    _, came = messages.decode_call(messages.encode_call(1, message), SocketName.CARDHOLDER)
    assert isinstance(came, VerifyBearer)
    assert "\N{REPLACEMENT CHARACTER}" in came.issuer_id
    assert "\N{REPLACEMENT CHARACTER}" in came.bearer.reveal()


def test_a_call_reads_as_it_was_written() -> None:
    message = ReadManifest("testbank01", 3)
    assert messages.decode_call(messages.encode_call(9, message), SocketName.D1) == (9, message)


@given(st.lists(st.binary(max_size=50)), st.lists(st.integers(1, 40)))
def test_frames_come_out_as_they_went_in_however_they_are_cut(
    bodies: list[bytes], cuts: list[int]
) -> None:
    stream = b"".join(map(frame, bodies))
    frames, out, start = Frames(50), list[bytes](), 0
    for cut in [*cuts, len(stream)]:
        out += frames.feed(stream[start : start + cut])
        start += cut
    assert out == bodies


def test_a_frame_that_is_too_long_is_refused_before_it_has_come() -> None:
    frames = Frames(10).feed(frame(b"first") + (11).to_bytes(4))
    assert next(frames) == b"first"
    with pytest.raises(MessageRefused, match="too long"):
        next(frames)


def test_a_pin_for_no_client_is_an_import_s_only() -> None:
    call = messages.encode_call(
        1,
        SetPinFromJwe(
            "jwe", PinBlockType.ISO0, CardRef("testbank01", "card-1"), SealedRecord(b""), 1, None
        ),
    )
    assert messages.decode_call(call, SocketName.ADMIN)[0] == 1  # the control
    with pytest.raises(MessageRefused, match="no client"):
        messages.decode_call(call, SocketName.D1)


def test_a_message_shows_none_of_its_arguments() -> None:
    page = SetPinFromPage(SealedGrant(b"grant"), "CONTROL-TOKEN", "JWE", SealedRecord(b""))
    assert repr(page) == "SetPinFromPage(…)"
    token = IssuedAccessToken("ACCESS-TOKEN", 1)
    assert "ACCESS-TOKEN" not in repr(token)

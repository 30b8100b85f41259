"""``cards feed-key``, ``make-feed`` and ``import``: lines of JSON become cards, or are named."""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from io import StringIO
from pathlib import Path

import pytest

from cms.persistence import card_feeds
from hsm.errors import VaultUnavailable
from hsm.port import CardRef, PublicKeyRole, SealedRecord
from hsm.vault import Vault
from tests.cms.operator.operator_at_work import (
    NEW_PAN,
    PIN,
    Answer,
    Operator,
    run_module,
    use_vault,
)
from tests.cms.services.d1.pin_service import PinService
from tests.feeds import NAME, described
from tests.issuer_records import (
    PAN,
    SampleIssuer,
    change_manifest,
    load_cards,
    open_issuer,
    run_sql,
)
from tests.operators import manifest, signed

CARD = ("testbank01", "card-1")
READ = (
    "SELECT cardholder_id, plastic_id, expiry, psn, state, card_type, personalised, last_four"
    " FROM cards WHERE card_id = 'card-1'"
)


# make-feed


class Desk:
    """The issuer's own machine: key files, no HSM token, no database."""

    def __init__(self, directory: Path, operator: Operator, vault: Vault) -> None:
        self.operator = operator
        self.key, self.intake = directory / "feed.pem", directory / "intake.jwks"
        self.plain, self.feed = directory / "plain.jsonl", directory / "feed"
        printed = operator.must("cards", "feed-key", self.key, "--name", NAME, "--no-passphrase")
        self.member = json.loads(printed)
        self.intake.write_text(json.dumps(vault.public_jwks(PublicKeyRole.INTAKE)))

    def make(self, *rows: object, json_too: bool = False) -> Answer:
        """Make a feed of rows: what is not text becomes a line of JSON."""
        lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
        self.plain.write_text("".join(line + "\n" for line in lines))
        key = ("--key", self.key, "--name", NAME, "--intake-jwk", self.intake)
        return self.operator(
            *("cards", "make-feed", "testbank01", self.plain, *key, "--out", self.feed),
            *["--json"] * json_too,
        )


@pytest.fixture
def desk(operator: Operator, vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    desk = Desk(tmp_path, operator, vault)
    for name in ("HSM_MODULE", "HSM_TOKEN_LABEL", "HSM_PIN_FILE", "CMS_DATABASE_URL_FILE"):
        monkeypatch.delenv(name, raising=False)
    return desk


def use_database(file: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have commands use a database whose URL is in *file*."""
    file.touch(0o600)
    file.write_text(url)
    monkeypatch.setenv("CMS_DATABASE_URL_FILE", str(file))


def test_a_feed_that_is_made_is_imported(
    desk: Desk,
    operator: Operator,
    sample_issuer: SampleIssuer,
    database_url: str,
    vault: Vault,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    change_manifest(vault, sample_issuer.issuer_id, feeds=[desk.member])
    members = {"state": "active", "psn": 99, "cardholder": "x", "cardType": "VIRTUAL"}
    made = desk.make(
        described("new-1", NEW_PAN, **members),
        "",
        described("new-2", NEW_PAN, plasticId=77, personalised=True),
    )
    assert made == Answer(0, "1 feeds made\n", "")
    assert NEW_PAN not in desk.feed.read_text()
    use_database(desk.feed.parent / "url", database_url, monkeypatch)
    answer = operator("cards", "import", sample_issuer.issuer_id, desk.feed)
    assert answer == Answer(0, "2 cards added, 0 renewed, 0 refused\n", "")
    assert run_sql(
        database_url,
        "SELECT card_id, state, psn, last_four, expiry, sealed_pin, counter,"
        " cardholder_id, card_type, plastic_id, personalised"
        " FROM cards WHERE card_id LIKE 'new%%' ORDER BY 1",
    ) == [
        ("new-1", "active", 99, "1117", "1230", None, 0, "x", "VIRTUAL", None, True),
        ("new-2", "inactive", 0, "1117", "1230", None, 0, None, "PHYSICAL", "77", True),
    ]


def test_what_was_made_and_imported_is_told_as_json(
    desk: Desk,
    operator: Operator,
    sample_issuer: SampleIssuer,
    database_url: str,
    vault: Vault,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    change_manifest(vault, sample_issuer.issuer_id, feeds=[desk.member])
    made = desk.make(described("new-1", NEW_PAN), json_too=True)
    assert json.loads(made.out) == {"feeds": 1, "refused": 0}
    use_database(desk.feed.parent / "url", database_url, monkeypatch)
    load = ("cards", "import", sample_issuer.issuer_id, desk.feed, "--json")
    counts = {"added": 1, "renewed": 0, "refused": 0, "feeds_loaded_before": 0}
    assert json.loads(operator.must(*load)) == counts
    assert json.loads(operator.must(*load)) == {**counts, "added": 0, "feeds_loaded_before": 1}


def test_at_a_terminal_a_bar_shows_how_far_an_import_is_and_refusals_stand_above_it(
    desk: Desk,
    operator: Operator,
    sample_issuer: SampleIssuer,
    vault: Vault,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    database_url: str,
) -> None:
    change_manifest(vault, sample_issuer.issuer_id, feeds=[desk.member])
    desk.make(described("new-1", NEW_PAN))
    desk.feed.write_text(desk.feed.read_text() + "no feed\n")
    use_database(tmp_path / "url", database_url, monkeypatch)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    answer = operator("cards", "import", sample_issuer.issuer_id, desk.feed)
    assert answer.out == "1 cards added, 0 renewed, 1 refused\n"
    assert "100%" in answer.err
    assert [line for line in answer.err.splitlines() if line.startswith("line 2: ")]


def test_a_line_that_describes_no_card_is_named_and_nothing_is_written(desk: Desk) -> None:
    good, state = described("new-1", NEW_PAN), "(inactive, active, blocked, closed)"
    answer = desk.make(
        good,
        "junk",
        described(f"c-{NEW_PAN}", NEW_PAN),
        described("new-2", NEW_PAN, state="new"),
        good,
    )
    assert answer == Answer(
        2,
        "4 lines refused: nothing was written\n",
        "line 2: not a JSON object\n"
        "line 3: a member beside pan contains the PAN\n"
        f"line 4: refused member: state {state}\n"
        "line 5: the card stands in this feed twice\n",
    )
    assert {*desk.feed.parent.glob("*feed*")} == {desk.key}


def test_a_feed_takes_the_place_of_the_one_before_once_it_is_whole(desk: Desk) -> None:
    desk.feed.write_text("the one before")
    assert desk.make("junk").code == 2
    assert desk.feed.read_text() == "the one before"
    assert desk.make(described("new-1", NEW_PAN)).code == 0
    assert desk.feed.read_text() != "the one before"


def test_the_key_of_a_feed_has_a_passphrase_like_an_operators(
    desk: Desk, operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def typed(*lines: str) -> None:
        monkeypatch.setattr("sys.stdin", StringIO("".join(line + "\n" for line in lines)))

    make = ("cards", "feed-key", desk.key, "--name")
    assert operator.refused(*make, NAME, "--no-passphrase") == (
        "the file of the key is there already"
    )
    desk.key.unlink()
    assert "1 to 64 letters" in operator.refused(*make, "two words", "--no-passphrase")
    typed("")
    assert "an empty passphrase" in operator.refused(*make, NAME)
    assert not desk.key.exists()
    typed("of the feed", "of the feed")
    operator.must(*make, NAME)
    assert desk.key.stat().st_mode & 0o777 == 0o600
    typed("another")
    assert "a wrong passphrase" in desk.make(described("new-1", NEW_PAN)).err
    typed("of the feed")
    assert desk.make(described("new-1", NEW_PAN)).code == 0


def test_files_that_are_no_keys_make_no_feed(desk: Desk) -> None:
    good = described("new-1", NEW_PAN)
    pem = desk.key.read_bytes()
    desk.key.write_text("junk")
    assert "not the file of a private key" in desk.make(good).err
    desk.key.write_bytes(pem)
    desk.intake.write_text("junk")
    assert "not a public P-256 key of role intake" in desk.make(good).err
    desk.intake.unlink()
    assert desk.make(good).err == f"{desk.intake}: No such file or directory\n"


# import


@pytest.fixture
def load(operator: Operator, sample_issuer: SampleIssuer, tmp_path: Path) -> Callable[..., Answer]:
    """Import feeds: a list of cards becomes one."""

    def load(*feeds: str | Sequence[object]) -> Answer:
        texts = [feed if isinstance(feed, str) else sample_issuer.feed(*feed) for feed in feeds]
        file = tmp_path / "feeds"
        file.write_text("".join(text + "\n" for text in texts))
        return operator("cards", "import", sample_issuer.issuer_id, file)

    return load


def said(added: int = 0, renewed: int = 0, refused: int = 0) -> str:
    return f"{added} cards added, {renewed} renewed, {refused} refused\n"


def complaints(answer: Answer) -> list[str]:
    """The lines on standard error, without what shows the progress."""
    lines = (line.rpartition("\r")[2] for line in answer.err.split("\n"))
    return [line for line in lines if line]


BAD_CARDS: Mapping[str, tuple[Callable[[SampleIssuer], object], str]] = {
    "not a card": (lambda _: "card", "not a JSON object"),
    "Luhn": (lambda _: described("new-1", "6011111111111118"), "the PAN's check digit is wrong"),
    "PAN in cardholder": (
        lambda _: described("new-1", NEW_PAN, cardholder=f"of-{NEW_PAN}"),
        "a member beside pan contains the PAN",
    ),
    "expiry": (
        lambda _: described("new-1", NEW_PAN, expiry="1331"),
        "refused member: expiry (MMYY)",
    ),
    "state": (
        lambda _: described("new-1", NEW_PAN, state="new"),
        "refused member: state (inactive, active, blocked, closed)",
    ),
    "plastic id of another card": (
        lambda _: described("new-1", NEW_PAN, plasticId="4711"),
        "another card has this plastic id",
    ),
    "weak PIN": (
        lambda b: described("new-1", NEW_PAN, encryptedPinBlock=b.pin_jwe("1234", "new-1")),
        "the PIN policy forbids this PIN",
    ),
    "PIN of another PAN": (
        lambda b: described("new-2", NEW_PAN, encryptedPinBlock=b.pin_jwe(PIN, "card-2")),
        "encryptedPinBlock cannot be used",
    ),
    "PIN junk": (
        lambda _: described("new-3", NEW_PAN, encryptedPinBlock="junk"),
        "encryptedPinBlock cannot be used",
    ),
    "PIN of an unknown type": (
        lambda b: described(
            "new-4", NEW_PAN, encryptedPinBlock=b.pin_jwe(PIN, "new-1"), type="ISO9"
        ),
        "unknown type of PIN block",
    ),
    "SECCOS PIN": (
        lambda b: described(
            "new-5", NEW_PAN, encryptedPinBlock=b.pin_jwe(PIN, "new-1"), type="3DES_SECCOS"
        ),
        "this type of PIN block is not offered",
    ),
    "PIN of a card that is there": (
        lambda b: described("card-3", PAN, encryptedPinBlock=b.pin_jwe(PIN, "card-3")),
        "only a new card brings its PIN",
    ),
    "state that cannot be": (
        lambda _: described("card-4", PAN, state="inactive"),
        "a card that is active cannot become inactive",
    ),
}


def test_each_bad_card_is_named_stores_nothing_and_stops_no_other(
    load: Callable[..., Answer], sample_issuer: SampleIssuer, database_url: str
) -> None:
    run_sql(database_url, "UPDATE cards SET plastic_id = '4711' WHERE card_id = 'card-2'")
    before = cards_and_audit(database_url)
    feeds, wanted = [], []
    for line, (bad, reason) in enumerate(BAD_CARDS.values(), start=1):
        feeds += [[described(f"good-{line}", NEW_PAN), bad(sample_issuer)]]
        wanted += [f"line {line}: card 2: {reason}"]
    answer = load(*feeds)
    assert complaints(answer)[: len(wanted)] == wanted
    assert (answer.code, answer.out) == (2, said(len(wanted), 0, len(wanted)))
    cards, events = cards_and_audit(database_url)
    added = {f"good-{line}" for line in range(1, len(wanted) + 1)}
    assert {card for _, card, _ in set(cards) - set(before[0])} == added
    assert {(event, card) for event, card in set(events) - set(before[1]) if card} == {
        ("card.added", card) for card in added
    }


def cards_and_audit(url: str) -> tuple[list[tuple[object, ...]], list[tuple[object, ...]]]:
    return (
        run_sql(url, "SELECT issuer_id, card_id, sealed_record FROM cards ORDER BY card_id"),
        run_sql(url, "SELECT event, card_id FROM audit_events ORDER BY event_id"),
    )


def test_a_bad_feed_is_named_and_stops_no_other(
    load: Callable[..., Answer], sample_issuer: SampleIssuer
) -> None:
    answer = load(
        "junk",
        sample_issuer.feed(described("new-1", NEW_PAN), iss="another"),
        "",
        [described("new-2", NEW_PAN)],
    )
    assert (answer.code, answer.out) == (2, said(added=1, refused=2))
    assert complaints(answer)[:2] == [
        "line 1: not a JWT in a JWE to a key of role intake",
        "line 2: iss is not the name of the feed whose key signed it",
    ]


def test_postgres_is_told_that_cards_came(load: Callable[..., Answer], database_url: str) -> None:
    assert load([described("new-1", NEW_PAN)]).out == said(added=1)
    ((count,),) = run_sql(database_url, "SELECT count(*) FROM cards")
    ((counted,),) = run_sql(database_url, "SELECT reltuples FROM pg_class WHERE relname = 'cards'")
    assert counted == count


def test_a_feed_is_loaded_once(
    load: Callable[..., Answer], sample_issuer: SampleIssuer, database_url: str
) -> None:
    feed = sample_issuer.feed(described("new-1", NEW_PAN, cardholder="ann"))
    assert load(feed).out == said(added=1)
    assert load([described("new-1", NEW_PAN, cardholder="bob")]).out == said(renewed=1)
    before = cards_and_audit(database_url)
    again = load(feed)
    assert (again.code, again.out) == (0, said() + "1 feeds were loaded before\n")
    assert cards_and_audit(database_url) == before
    run_sql(database_url, "DELETE FROM card_feeds")
    assert load(feed).out == said(renewed=1)


def test_a_feed_that_another_import_loads_meanwhile_is_loaded_once(
    load: Callable[..., Answer],
    sample_issuer: SampleIssuer,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    feed = sample_issuer.feed(described("card-1", PAN, cardholder="ann"))
    assert load(feed).out == said(renewed=1)
    before = cards_and_audit(database_url)
    # It was not when this one looked.
    monkeypatch.setattr(card_feeds, "is_loaded", lambda *_: False)
    assert load(feed).out == said() + "1 feeds were loaded before\n"
    assert cards_and_audit(database_url) == before


def test_an_import_that_breaks_off_keeps_whole_feeds_and_can_be_repeated(
    load: Callable[..., Answer],
    sample_issuer: SampleIssuer,
    database_url: str,
    vault: Vault,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    feeds = [
        sample_issuer.feed(described(f"new-{number}", NEW_PAN), described(f"more-{number}", PAN))
        for number in range(3)
    ]
    use_vault(monkeypatch, OutOfBreath(vault, verbs=2))
    answer = load(*feeds)
    (complaint,) = complaints(answer)
    assert (answer.code, answer.out) == (2, "")
    assert complaint.startswith("the vault: the token is away; see the log of python -m hsm serve")
    assert len(cards_and_audit(database_url)[0]) == 4 + 4
    use_vault(monkeypatch, vault)
    assert load(*feeds).out == said(added=2) + "2 feeds were loaded before\n"


class OutOfBreath:
    """A vault that is unavailable after a number of verbs."""

    def __init__(self, vault: Vault, *, verbs: int) -> None:
        self._vault = vault
        self._left = verbs

    def __getattr__(self, verb: str) -> object:
        self._left -= 1
        if self._left < 0:
            raise VaultUnavailable("the token is away")
        return getattr(self._vault, verb)


def test_a_feed_that_the_database_refuses_leaves_nothing(
    load: Callable[..., Answer],
    sample_issuer: SampleIssuer,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = cards_and_audit(database_url)
    monkeypatch.setattr(card_feeds, "taken_plastic_ids", lambda *_: set())
    run_sql(database_url, "UPDATE cards SET plastic_id = '4711' WHERE card_id = 'card-2'")
    feed = sample_issuer.feed(
        described("new-1", NEW_PAN), described("new-2", NEW_PAN, plasticId="4711")
    )
    assert complaints(load(feed))[:1] == ["line 1: another card has this plastic id"]
    assert cards_and_audit(database_url) == before
    assert run_sql(database_url, "SELECT digest FROM card_feeds OFFSET 1") == []


def test_an_import_for_an_unknown_issuer_is_refused(operator: Operator, tmp_path: Path) -> None:
    (tmp_path / "feeds").write_text("junk\n")
    refusal = operator.refused("cards", "import", "testbank02", tmp_path / "feeds")
    assert refusal == "no such issuer"


def test_cards_need_the_issuers_manifest(
    operator: Operator, sample_issuer: SampleIssuer, tmp_path: Path
) -> None:
    operator.must("issuers", "add", "testbank02", "--name", "No manifest yet")
    (tmp_path / "feeds").write_text(sample_issuer.feed(described("new-1", NEW_PAN)))
    refusal = operator.refused("cards", "import", "testbank02", tmp_path / "feeds")
    assert refusal == "this host has no manifest of the issuer"


def test_a_file_that_is_not_there_is_named(
    operator: Operator, sample_issuer: SampleIssuer, tmp_path: Path
) -> None:
    file = tmp_path / "feeds"
    refusal = operator.refused("cards", "import", sample_issuer.issuer_id, file)
    assert refusal == f"{file}: No such file or directory"


@pytest.mark.parametrize(
    ("members", "personalised"),
    [
        ({}, False),
        ({"state": "inactive"}, False),
        ({"state": "active"}, True),
        ({"state": "active", "personalised": False}, False),
        ({"state": "inactive", "personalised": True}, True),
        ({"state": "active", "personalised": None}, True),
    ],
    ids=str,
)
def test_a_new_card_in_service_is_personalised_unless_the_feed_says_otherwise(
    load: Callable[..., Answer],
    database_url: str,
    members: Mapping[str, object],
    personalised: bool,
) -> None:
    assert load([described("new-1", NEW_PAN, **members)]).code == 0
    stored = run_sql(database_url, "SELECT personalised FROM cards WHERE card_id = 'new-1'")
    assert stored == [(personalised,)]


# PINs that come along


@pytest.mark.anyio
async def test_a_card_comes_with_its_pin(
    load: Callable[..., Answer], sample_issuer: SampleIssuer, database_url: str, vault: Vault
) -> None:
    jwe = sample_issuer.pin_jwe(PIN, "new-1")
    members = {"state": "active", "encryptedPinBlock": jwe, "type": "iso_0"}
    assert load([described("new-1", NEW_PAN, **members)]).code == 0
    assert run_sql(
        database_url, "SELECT event, counter FROM audit_events WHERE card_id = 'new-1'"
    ) == [("card.added", None), ("pin.loaded", 0)]
    async with PinService.over(sample_issuer, database_url, vault) as pin_service:
        assert await pin_service.counter("new-1") == 0
        assert await pin_service.pin("new-1") == PIN
        await pin_service.put(sample_issuer.pin_jwe("40719382", "new-1"), "new-1")
        assert await pin_service.counter("new-1") == 1
        assert await pin_service.pin("new-1") == "40719382"


def test_a_pin_without_a_type_has_the_first_of_the_issuers_own_literals(
    operator: Operator, vault: Vault, tmp_path: Path, database_url: str
) -> None:
    named = open_issuer(database_url, vault, "namedbank1", wire={"put_pin": {"iso0": ["Block 0"]}})
    named.pans["new-1"] = NEW_PAN
    pin = named.pin_jwe(PIN, "new-1")
    file = tmp_path / "feeds"
    unknown = "line 1: card 1: unknown type of PIN block"
    for given, reasons in (({"type": "ISO9"}, [unknown]), ({"type": "ISO0"}, [unknown]), ({}, [])):
        file.write_text(named.feed(described("new-1", NEW_PAN, encryptedPinBlock=pin, **given)))
        answer = operator("cards", "import", named.issuer_id, file)
        assert [line for line in complaints(answer) if line.startswith("line")] == reasons
    stored = "SELECT pin_type FROM cards WHERE issuer_id = 'namedbank1' AND card_id = 'new-1'"
    assert run_sql(database_url, stored) == [("ISO0",)]


@pytest.mark.anyio
@pytest.mark.usefixtures("served")
async def test_loading_a_manifest_and_importing_cards_are_commands(
    operator: Operator, sample_issuer: SampleIssuer, vault: Vault, tmp_path: Path, database_url: str
) -> None:
    file, feeds = tmp_path / "manifest", tmp_path / "feeds"
    body = vault.read_manifest(sample_issuer.issuer_id).model_dump(mode="json")
    issuer_id, version = body.pop("issuer_id"), body.pop("version") + 1
    body["policy"] = {"length_min": 6}
    file.write_text(signed(manifest(issuer_id, version, **body)))
    assert run_module("cms", "manifest", "load", file) == Answer(0, "", "")
    pins = [sample_issuer.pin_jwe(pin, "new-1") for pin in (PIN, "40719")]
    text = sample_issuer.feed(
        described("new-1", NEW_PAN, state="active", encryptedPinBlock=pins[0]),
        described("new-2", NEW_PAN, encryptedPinBlock=pins[1]),
    )
    feeds.write_text(text)
    answer = run_module("cms", "cards", "import", sample_issuer.issuer_id, feeds)
    assert (answer.code, answer.out) == (2, said(added=1, refused=1))
    assert complaints(answer)[0] == "line 1: card 2: the PIN policy forbids this PIN"
    async with PinService.over(sample_issuer, database_url, vault) as pin_service:
        assert await pin_service.pin("new-1") == PIN


# Renewal


def test_a_card_that_is_there_gets_the_new_record_whole(
    load: Callable[..., Answer], operator: Operator, sample_issuer: SampleIssuer, database_url: str
) -> None:
    for members, stored in (
        ({"cardholder": "ann", "plasticId": "77", "psn": 2}, ("ann", "77", "1230", 2)),
        ({"expiry": "0131"}, (None, None, "0131", 0)),
    ):
        assert load([described("card-1", PAN, **members)]).out == said(renewed=1)
        assert run_sql(database_url, READ) == [(*stored, "active", "PHYSICAL", False, "1111")]
    members = {"state": "blocked", "cardType": "METAL", "personalised": True}
    assert load([described("card-1", NEW_PAN, **members)]).out == said(renewed=1)
    changed = (None, None, "1230", 0, "blocked", "METAL", True, "1117")
    assert run_sql(database_url, READ) == [changed]
    events = operator.must("audit", "list", CARD[0], "--card", CARD[1])
    assert events.count("event=card.renewed  card_id=card-1  actor=operator") == 3


def test_of_two_imports_of_a_card_at_once_one_is_refused(
    load: Callable[..., Answer],
    sample_issuer: SampleIssuer,
    database_url: str,
    vault: Vault,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    keeps_pin = vault.keeps_pin

    def while_another_renews(before: SealedRecord, after: SealedRecord, card: CardRef) -> bool:
        patch.undo()
        load_cards(database_url, vault, sample_issuer, described("card-1", PAN, cardholder="bob"))
        return keeps_pin(before, after, card)

    with monkeypatch.context() as patch:
        patch.setattr(vault, "keeps_pin", while_another_renews)
        answer = load([described("card-1", PAN, cardholder="ann"), described("new-1", NEW_PAN)])
    assert complaints(answer)[0] == ("line 1: the same cards were changed meanwhile: try again")
    assert run_sql(database_url, READ)[0][0] == "bob"
    assert run_sql(database_url, "SELECT FROM cards WHERE card_id = 'new-1'") == []


def test_two_cards_change_plastic_ids_in_one_feed(
    load: Callable[..., Answer], database_url: str
) -> None:
    stored = "SELECT plastic_id FROM cards WHERE card_id < 'card-3' ORDER BY card_id"
    for first, second in (("1", "2"), ("2", "1")):
        cards = [
            described("card-1", PAN, plasticId=first),
            described("card-2", PAN, plasticId=second),
        ]
        assert load(cards).out == said(renewed=2)
        assert run_sql(database_url, stored) == [(first,), (second,)]
    both = [described("card-1", PAN, plasticId="3"), described("card-2", PAN, plasticId="3")]
    assert complaints(load(both))[0] == "line 1: card 2: another card has this plastic id"
    assert run_sql(database_url, stored) == [("3",), ("1",)]


@pytest.mark.parametrize(
    ("before", "after", "pan", "has_pin"),
    [
        (None, None, PAN, True),
        ("ann", "ann", PAN, True),
        (None, "ann", PAN, False),
        ("ann", "bob", PAN, False),
        ("ann", None, PAN, False),
        ("ann", "ann", NEW_PAN, False),
    ],
)
@pytest.mark.anyio
async def test_another_holder_or_pan_needs_another_pin(
    load: Callable[..., Answer],
    operator: Operator,
    sample_issuer: SampleIssuer,
    database_url: str,
    vault: Vault,
    before: str | None,
    after: str | None,
    pan: str,
    has_pin: bool,
) -> None:
    load_cards(database_url, vault, sample_issuer, described("card-1", PAN, cardholder=before))
    async with PinService.over(sample_issuer, database_url, vault) as pin_service:
        await pin_service.put(sample_issuer.pin_jwe(PIN, "card-1"), "card-1")
        begin_on_a_page(database_url)
        load([described("card-1", pan, cardholder=after, expiry="1232", psn=3)])
        ended = run_sql(database_url, "SELECT end_reason FROM control_tokens")
        assert ended == ([(None,)] if has_pin else [("revoked",)])
        stored = run_sql(
            database_url,
            "SELECT sealed_pin IS NOT NULL, pin_type, counter FROM cards WHERE card_id = 'card-1'",
        )
        assert stored == [(has_pin, "ISO0" if has_pin else None, 1)]
        if has_pin:
            assert await pin_service.pin("card-1") == PIN
    events = operator.must("audit", "list", CARD[0], "--event", "pin.forgotten")
    assert events.count("counter=1") == (0 if has_pin else 1)


def begin_on_a_page(url: str) -> None:
    """Store a control token of the card, as if a page had opened it."""
    run_sql(
        url,
        "INSERT INTO control_tokens (token_hash, issuer_id, card_id, client_id, face, purpose,"
        " style, embedded, counter, expires_at, sealed_grant, grant_id) VALUES (sha256('x'),"
        " 'testbank01', 'card-1', 'testbank01-app', 'hosted', 'set', '{}', false, 1,"
        " now() + interval '1 minute', 'sealed', 'grant')",
    )

"""What the rule takes for bound to one issuer, and what it finds that is not."""

import pytest

from tests.cms.persistence.issuer_rule import unbound

MINE = "cards.issuer_id = %(issuer_id)s::VARCHAR"


@pytest.mark.parametrize(
    "sql",
    [
        pytest.param(f"SELECT cards.state FROM cards WHERE {MINE}", id="by the parameter"),
        pytest.param(
            "SELECT cards.state FROM cards WHERE %(issuer_id)s = cards.issuer_id",
            id="the other way round",
        ),
        pytest.param(
            "SELECT cards.state FROM pin_changes JOIN cards ON"
            f" cards.issuer_id = pin_changes.issuer_id WHERE {MINE}",
            id="one by the other",
        ),
        pytest.param(
            "SELECT cards.state FROM cards, manifests AS c, issuers AS i WHERE"
            f" i.issuer_id = c.issuer_id AND (c.issuer_id = cards.issuer_id AND {MINE})",
            id="by a chain",
        ),
        pytest.param(
            f"SELECT cards.state FROM cards WHERE {MINE} AND NOT EXISTS (SELECT * FROM pin_changes"
            " WHERE pin_changes.issuer_id = cards.issuer_id)",
            id="by the query around it",
        ),
        pytest.param(
            f"WITH mine AS (UPDATE cards SET state = 'closed' WHERE {MINE}"
            " RETURNING cards.issuer_id), event AS (INSERT INTO audit_events (event, issuer_id)"
            " SELECT 'closed', mine.issuer_id AS issuer_id FROM mine)"
            " DELETE FROM control_tokens AS t USING mine WHERE t.issuer_id = mine.issuer_id",
            id="by a CTE",
        ),
        pytest.param(
            "INSERT INTO audit_events (issuer_id) SELECT %(issuer_id)s::VARCHAR AS issuer_id",
            id="an insert",
        ),
        pytest.param(
            "INSERT INTO manifest_hosts (issuer_id, host) VALUES (%(issuer_id)s, %(host)s)"
            " ON CONFLICT (issuer_id, host) DO UPDATE SET host = %(host)s",
            id="an insert that meets a row of the same issuer",
        ),
        pytest.param(
            "INSERT INTO audit_events (issuer_id, card_id) SELECT %(issuer_id)s AS issuer_id,"
            " r.card_id FROM jsonb_to_recordset(%(rows)s::JSONB) AS r(card_id VARCHAR)",
            id="an insert of the rows of a parameter",
        ),
        pytest.param("SELECT current_setting('fsync')", id="no table"),
    ],
)
def test_a_statement_about_one_issuer_passes(sql: str) -> None:
    assert unbound(sql) == []


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        pytest.param(
            "UPDATE cards SET state = 'closed' WHERE cards.card_id = %(card_id)s",
            ["cards"],
            id="forgotten in an update",
        ),
        pytest.param(
            "DELETE FROM control_tokens WHERE control_tokens.expires_at < now()",
            ["control_tokens"],
            id="forgotten in a delete",
        ),
        pytest.param("SELECT cards.state FROM cards", ["cards"], id="forgotten in a select"),
        pytest.param(
            "SELECT cards.state FROM cards JOIN pin_changes ON"
            f" pin_changes.card_id = cards.card_id WHERE {MINE}",
            ["pin_changes"],
            id="forgotten in a join",
        ),
        pytest.param(
            f"SELECT cards.state FROM cards, manifests WHERE {MINE}",
            ["manifests"],
            id="forgotten in a product",
        ),
        pytest.param(
            f"SELECT cards.state FROM cards WHERE {MINE} AND EXISTS (SELECT * FROM pin_changes"
            " WHERE pin_changes.card_id = cards.card_id)",
            ["pin_changes"],
            id="forgotten in a subquery",
        ),
        pytest.param(
            f"SELECT (SELECT max(newer.counter) FROM cards AS newer) FROM cards WHERE {MINE}",
            ["newer"],
            id="forgotten for an alias",
        ),
        pytest.param(
            f"SELECT cards.state FROM cards WHERE {MINE} AND EXISTS (SELECT * FROM cards"
            " WHERE cards.issuer_id = cards.issuer_id)",
            ["cards"],
            id="equal to itself",
        ),
        pytest.param(
            "SELECT cards.state FROM cards JOIN manifests ON manifests.issuer_id = cards.issuer_id",
            ["cards", "manifests"],
            id="one by the other, and none by the parameter",
        ),
        pytest.param(
            "SELECT cards.state FROM cards WHERE EXISTS (SELECT * FROM manifests WHERE"
            " manifests.issuer_id = cards.issuer_id AND manifests.issuer_id = %(issuer_id)s)",
            ["cards"],
            id="only a subquery says it",
        ),
        pytest.param(
            f"SELECT cards.state FROM cards WHERE {MINE} OR cards.state = 'active'",
            ["cards"],
            id="or something else holds",
        ),
        pytest.param(f"SELECT cards.state FROM cards WHERE NOT {MINE}", ["cards"], id="not"),
        pytest.param(
            "SELECT cards.state FROM cards WHERE cards.issuer_id >= %(issuer_id)s",
            ["cards"],
            id="no equality",
        ),
        pytest.param(
            "INSERT INTO audit_events (issuer_id) SELECT r.issuer_id"
            " FROM jsonb_to_recordset(%(rows)s::JSONB) AS r(issuer_id VARCHAR)",
            ["INSERT INTO audit_events"],
            id="what each row of a parameter says",
        ),
        pytest.param(
            "SELECT cards.state FROM cards WHERE cards.issuer_id = %(client_id)s",
            ["cards"],
            id="another parameter",
        ),
        pytest.param(
            "SELECT cards.state FROM cards WHERE cards.card_id = %(issuer_id)s",
            ["cards"],
            id="another column",
        ),
        pytest.param(
            "SELECT cards.state FROM cards WHERE cards.token_hash = %(token_hash)s",
            ["cards"],
            id="a key that is not allowed",
        ),
        pytest.param(
            "SELECT cards.state FROM cards WHERE issuer_id = %(issuer_id)s",
            ["cards"],
            id="a column of whichever table",
        ),
        pytest.param(
            f"SELECT cards.state FROM cards LEFT JOIN manifests ON {MINE}"
            " AND manifests.issuer_id = cards.issuer_id",
            ["LEFT JOIN"],
            id="an outer join shows what it does not match",
        ),
        pytest.param(
            f"SELECT cards.state FROM cards WHERE {MINE}"
            " UNION SELECT manifests.text FROM manifests",
            ["manifests"],
            id="forgotten in a union",
        ),
        pytest.param(
            "WITH found AS (SELECT cards.issuer_id, cards.card_id FROM cards),"
            " event AS (INSERT INTO audit_events (issuer_id) SELECT found.issuer_id FROM found)"
            " UPDATE control_tokens SET ended_at = now() FROM found WHERE"
            " control_tokens.issuer_id = found.issuer_id",
            ["cards", "INSERT INTO audit_events", "control_tokens"],
            id="forgotten in a CTE",
        ),
        pytest.param(
            f"WITH mine AS (SELECT cards.card_id AS issuer_id FROM cards WHERE {MINE})"
            " DELETE FROM control_tokens AS t USING mine WHERE t.issuer_id = mine.issuer_id",
            ["t"],
            id="a CTE's column that only has the name",
        ),
        pytest.param(
            "INSERT INTO audit_events (issuer_id) SELECT 'another' AS issuer_id",
            ["INSERT INTO audit_events"],
            id="inserted for another",
        ),
        pytest.param(
            f"INSERT INTO audit_events (card_id, issuer_id) SELECT cards.issuer_id, cards.card_id"
            f" FROM cards WHERE {MINE}",
            ["INSERT INTO audit_events"],
            id="inserted in the wrong place",
        ),
        pytest.param(
            "INSERT INTO audit_events (issuer_id, card_id) VALUES"
            " (%(issuer_id)s, (SELECT max(cards.card_id) FROM cards))",
            ["cards"],
            id="forgotten in what is inserted",
        ),
        pytest.param(
            "INSERT INTO audit_events (issuer_id) VALUES (%(issuer_id)s), ('another')",
            ["INSERT INTO audit_events"],
            id="inserted for another beside it",
        ),
        pytest.param(
            "INSERT INTO audit_events SELECT %(issuer_id)s",
            ["INSERT INTO audit_events"],
            id="inserted without naming columns",
        ),
        pytest.param(
            "INSERT INTO manifest_hosts (issuer_id, host) VALUES (%(issuer_id)s, %(host)s)"
            " ON CONFLICT (host) DO UPDATE SET host = %(host)s",
            ["INSERT INTO manifest_hosts"],
            id="inserted where it may meet another's",
        ),
        pytest.param(
            "INSERT INTO manifest_hosts (issuer_id, host) VALUES (%(issuer_id)s, %(host)s)"
            " ON CONFLICT (issuer_id, host) DO UPDATE SET issuer_id = %(other)s",
            ["INSERT INTO manifest_hosts"],
            id="inserted, or given to another",
        ),
        pytest.param(
            f"UPDATE cards SET issuer_id = %(other)s WHERE {MINE}",
            ["SET issuer_id"],
            id="given to another",
        ),
    ],
)
def test_a_statement_that_reaches_another_issuer_is_found(sql: str, expected: list[str]) -> None:
    assert unbound(sql) == expected

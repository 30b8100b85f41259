"""What this process counted of the audit, held against the audit itself."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from hsm import exposition
from tests.issuer_records import run_sql

NAME = "cms_audit_rows"


@contextmanager
def counted_as_audited(url: str) -> Iterator[Counter[str]]:
    """Check that what is written into the audit meanwhile is what is counted; yield that."""
    counted, written = _counted(), _written(url)
    came = Counter[str]()
    yield came
    came.update(_counted() - counted)
    assert came == _written(url) - written


def _counted() -> Counter[str]:
    families = [family for family in exposition.registry.collect() if family.name == NAME]
    samples = [sample for family in families for sample in family.samples]
    return Counter(
        {each.labels["event"]: int(each.value) for each in samples if each.name == f"{NAME}_total"}
    )


def _written(url: str) -> Counter[str]:
    return Counter(dict(run_sql(url, "SELECT event, count(*) FROM audit_events GROUP BY event")))

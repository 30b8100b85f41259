"""A page of reference, made from what web and vault count."""

from datetime import UTC, datetime
from typing import Any, Final

import cms.metrics
import hsm.metrics
from cms.faces.ops import State
from cms.services.ends import Ends
from cms.services.health import Readiness
from hsm import exposition
from hsm.metrics import KeyInfo

HEAD: Final = """\
# Metrics

Made from the code by `python -m docs.site.references`. Where they are served, and what watches
them, is in [monitoring](monitoring.md). A histogram has `_bucket`, `_sum` and `_count`, and its
`_count` counts what it measures. The layout of SECCOS is not public: [ours](seccos.md) is a
profile.

| metric | type | labels | meaning |
|---|---|---|---|
"""
COUNTED: Final = (cms.metrics, hsm.metrics)
"""They make their metrics as they are imported."""


def metrics() -> str:
    """Write the page."""
    return HEAD + "".join(
        f"| `{each.name}{'_total' if each.type == 'counter' else ''}` | {each.type} |"
        f" {', '.join(labels)} | {each.documentation} |\n"
        for each, labels in _families()
    )


def _families() -> list[tuple[Any, tuple[str, ...]]]:
    """Return every family, and its labels, which one without samples does not tell itself."""
    counted = [*exposition.registry._collector_to_names]  # noqa: SLF001 - nothing else has them
    now = datetime.now(UTC)
    state = State(Readiness(True, True, (), (), ()), Ends({"a": now}, {"a": now}))
    families: list[tuple[Any, Any]] = [(one, each) for each in counted for one in each.collect()]
    families += [(one, one) for others in (state, KeyInfo({})) for one in others.collect()]
    families.sort(key=lambda pair: str(pair[0].name))
    return [(family, getattr(each, "_labelnames", ())) for family, each in families]

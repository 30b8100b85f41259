"""Makes the dashboard for Grafana: ``python deploy/grafana/dashboard.py`` writes dashboard.json.

Rows follow what somebody on call asks: is it up, what do callers see, the vault, the database, who
is refused, what ends soon. Every metric in it is in docs/monitoring.md.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

FILE: Final = Path(__file__).with_name("dashboard.json")
COLUMNS: Final = 24
HEIGHT: Final = 8
SOURCE: Final = {"type": "prometheus", "uid": "${source}"}
OURS: Final = 'job="$job"'
CALLERS: Final = f'{OURS}, listener!="ops"'


@dataclass(frozen=True)
class Panel:
    """A graph; *queries* are PromQL and how each line is named."""

    title: str
    queries: Sequence[tuple[str, str]]
    unit: str = "short"
    kind: str = "timeseries"


def _rate(metric: str, by: str, labels: str = OURS) -> str:
    return f"sum by ({by}) (rate({metric}{{{labels}}}[$__rate_interval]))"


def _quantile(share: float, histogram: str, by: str, labels: str = OURS) -> str:
    return f"histogram_quantile({share}, {_rate(f'{histogram}_bucket', f'le, {by}', labels)})"


ROWS: Final[Sequence[tuple[str, Sequence[Panel]]]] = (
    (
        "Is it up",
        (
            Panel("Ready", [(f"min by (part) (cms_ready{{{OURS}}})", "{{part}}")], kind="stat"),
            Panel(
                "What is wrong",
                [
                    (f"cms_problem{{{OURS}}}", "{{instance}} {{part}} {{severity}}"),
                    (f"cms_database_cause{{{OURS}}} == 1", "{{instance}} {{cause}}"),
                ],
            ),
            Panel(
                "Workers",
                [
                    (f"cms_workers{{{OURS}}}", "{{instance}} {{state}}"),
                    (f"increase(cms_workers_started_total{{{OURS}}}[1h])", "started in an hour"),
                ],
            ),
            Panel(
                "The database's clock: ahead of the host's by",
                [(f"cms_clock_difference_seconds{{{OURS}}}", "{{instance}}")],
                "s",
            ),
        ),
    ),
    (
        "What callers see",
        (
            Panel(
                "Requests by route",
                [
                    (
                        _rate("cms_request_seconds_count", "listener, method, route", CALLERS),
                        "{{listener}} {{method}} {{route}}",
                    )
                ],
                "reqps",
            ),
            Panel(
                "Requests by status",
                [(_rate("cms_request_seconds_count", "status", CALLERS), "{{status}}")],
                "reqps",
            ),
            Panel(
                "Time of requests",
                [
                    (
                        _quantile(share, "cms_request_seconds", "listener", CALLERS),
                        f"{{{{listener}}}} {share}",
                    )
                    for share in (0.5, 0.99)
                ],
                "s",
            ),
        ),
    ),
    (
        "Vault",
        (
            Panel(
                "Calls by verb",
                [(f"rate(hsm_call_seconds_count{{{OURS}}}[$__rate_interval])", "{{verb}}")],
                "reqps",
            ),
            Panel(
                "Time: the call, and with the wait for it",
                [
                    (_quantile(0.99, "hsm_call_seconds", "instance, verb"), "{{verb}}: the call"),
                    (
                        _quantile(0.99, "cms_vault_call_seconds", "instance, verb"),
                        "{{verb}}: as the web waits",
                    ),
                    (
                        _quantile(0.99, "hsm_wait_seconds", "instance, socket"),
                        "{{socket}}: read and not begun",
                    ),
                ],
                "s",
            ),
            Panel(
                "Calls at one time, on average",
                [
                    (_rate("hsm_wait_seconds_sum", "instance, socket"), "{{socket}}: in the queue"),
                    (_rate("cms_vault_call_seconds_sum", "instance"), "asked and not answered"),
                ],
            ),
            Panel(
                "Refusals, openings, ends of workers",
                [
                    (f"increase(hsm_refusals_total{{{OURS}}}[5m])", "{{verb}} {{error}}"),
                    (f"increase(hsm_openings_total{{{OURS}}}[5m])", "opening: {{result}}"),
                    (f"increase(hsm_workers_ended_total{{{OURS}}}[5m])", "worker: {{why}}"),
                    (
                        f"increase(cms_vault_failures_total{{{OURS}}}[5m])",
                        "web: {{verb}} {{error}}",
                    ),
                ],
            ),
            Panel(
                "Keys: uses of what they may",
                [
                    (
                        f"max by (key, unit) (cms_key_uses{{{OURS}}} / cms_key_uses_max{{{OURS}}})",
                        "{{key}}",
                    )
                ],
                "percentunit",
            ),
            Panel(
                "Different keys under one label: more than 1",
                [
                    (
                        f"count by (key) (count by (key, fingerprint) (hsm_key_info{{{OURS}}}))",
                        "{{key}}",
                    )
                ],
            ),
            Panel(
                "Lines of its log",
                [(f"rate(hsm_log_lines_total{{{OURS}}}[$__rate_interval])", "{{action}}")],
            ),
        ),
    ),
    (
        "Database",
        (
            Panel(
                "Failures by cause",
                [(_rate("cms_database_failures_total", "cause"), "{{cause}}")],
            ),
            Panel(
                "Connections",
                [(f"cms_database_connections{{{OURS}}}", "{{instance}} {{state}}")],
            ),
            Panel(
                "Cards that changed at each try",
                [(f"increase(cms_conflicts_total{{{OURS}}}[1h])", "{{face}}")],
            ),
        ),
    ),
    (
        "Who is refused",
        (
            Panel(
                "Callers turned away", [(_rate("cms_callers_refused_total", "kind"), "{{kind}}")]
            ),
            Panel(
                "Calls refused, by the audit's reason",
                [(_rate("cms_refusals_total", "reason"), "{{reason}}")],
            ),
            Panel(
                "Clients that had half of their day",
                [(f"increase(hsm_half_handed_out_total{{{OURS}}}[1h])", "{{instance}} {{who}}")],
            ),
            Panel("Rows of the audit", [(_rate("cms_audit_rows_total", "event"), "{{event}}")]),
            Panel(
                "Control tokens",
                [
                    (_rate("cms_control_tokens_total", "event"), "{{event}}"),
                    (
                        "sum(increase(cms_control_tokens_total"
                        f'{{{OURS}, event="issued"}}[1h])) - '
                        "sum(increase(cms_control_tokens_total"
                        f'{{{OURS}, event="consumed"}}[1h]))',
                        "expired in an hour",
                    ),
                ],
            ),
        ),
    ),
    (
        "What ends",
        (
            Panel(
                "Manifests",
                [
                    (
                        f"min by (issuer) (cms_manifest_end_timestamp_seconds{{{OURS}}}) - time()",
                        "{{issuer}}",
                    )
                ],
                "s",
            ),
            Panel(
                "Certificates",
                [
                    (
                        f"cms_certificate_end_timestamp_seconds{{{OURS}}} - time()",
                        "{{instance}} {{listener}}",
                    )
                ],
                "s",
            ),
        ),
    ),
)


def dashboard() -> dict[str, Any]:
    """Lay out the rows, one below the other, as Grafana 10 and later import them."""
    panels: list[dict[str, Any]] = []
    y = 0
    for title, row in ROWS:
        place = {"x": 0, "y": y, "w": COLUMNS, "h": 1}
        panels.append({"type": "row", "title": title, "gridPos": place, "panels": []})
        width = COLUMNS // len(row)
        for column, panel in enumerate(row):
            place = {"x": column * width, "y": y + 1, "w": width, "h": HEIGHT}
            panels.append(_panel(panel, place))
        y += 1 + HEIGHT
    for number, each in enumerate(panels, 1):
        each["id"] = number
    return {
        "title": "Issuer PIN service",
        "uid": "issuer-pin-service",
        "schemaVersion": 39,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {"list": _variables()},
        "panels": panels,
    }


def _panel(panel: Panel, place: dict[str, int]) -> dict[str, Any]:
    targets = [
        {"refId": chr(ord("A") + number), "datasource": SOURCE, "expr": expr, "legendFormat": name}
        for number, (expr, name) in enumerate(panel.queries)
    ]
    return {
        "type": panel.kind,
        "title": panel.title,
        "datasource": SOURCE,
        "gridPos": place,
        "targets": targets,
        "fieldConfig": {"defaults": {"unit": panel.unit}, "overrides": []},
    }


def _variables() -> list[dict[str, Any]]:
    source = {"name": "source", "type": "datasource", "query": "prometheus"}
    job = {
        "name": "job",
        "type": "query",
        "datasource": SOURCE,
        "query": "label_values(cms_ready, job)",
        "refresh": 1,
    }
    return [source, job]


def text() -> str:
    """Write the file."""
    return json.dumps(dashboard(), indent=1) + "\n"


if __name__ == "__main__":
    FILE.write_text(text())

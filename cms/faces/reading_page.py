"""OpenAPI documents as pages for people: HTML without a script, that loads nothing."""

import base64
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from html import escape
from typing import Any, Final

from starlette.responses import Response

from cms.faces.openapi import operations

STYLE: Final = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
code, pre { font: 0.875rem/1.5 ui-monospace, monospace; }
pre { overflow: auto; padding: 0.75rem; border: 1px solid #8888; border-radius: 0.25rem; }
summary { cursor: pointer; padding: 0.25rem 0; }
section, details { margin: 0.5rem 0; }
table { border-collapse: collapse; }
th, td { padding: 0.25rem 0.75rem 0.25rem 0; text-align: left; vertical-align: top; }
"""
_STYLE_HASH: Final = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
HEADERS: Final = {
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none';"
        " form-action 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def list_page(titles: Mapping[str, str], document_path: str) -> Response:
    """List the faces.

    Args:
        titles: what each is called, by the address of its page.
        document_path: before the name of a face: the address of its document.
    """
    lines = "".join(
        f'<li><a href="{escape(path)}">{escape(title)}</a>,'
        f' <a href="{escape(document_path)}/{escape(path.rpartition("/")[2])}">OpenAPI 3.1</a></li>'
        for path, title in titles.items()
    )
    return _page("Interfaces", f"<h1>Interfaces</h1><ul>{lines}</ul>")


def document_page(document: Mapping[str, Any]) -> Response:
    """Show a document: what can be called, one section for each operation."""
    info = document["info"]
    return _page(
        info["title"],
        "".join(
            [
                f"<h1>{escape(info['title'])}</h1>{_text(info['description'])}",
                *_security(document["components"]["securitySchemes"]),
                *_operations(document),
                "<h2>Schemas</h2>",
                *_schemas(document["components"]["schemas"]),
            ]
        ),
    )


def _page(title: str, body: str) -> Response:
    html = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        '<meta name="viewport" content="width=device-width">'
        f"<style>{STYLE}</style></head><body>{body}</body></html>"
    )
    return Response(html, headers=HEADERS, media_type="text/html")


def _operations(document: Mapping[str, Any]) -> Iterator[str]:
    tags = {tag["name"]: tag["description"] for tag in document["tags"]}
    by_tag: dict[str, list[str]] = {tag: [] for tag in tags}
    for path, method, operation in operations(document):
        (tag,) = operation.get("tags", ["operations"])
        by_tag.setdefault(tag, []).append(_operation(path, method, operation))
    for tag, shown in by_tag.items():
        yield f"<h2>{escape(tag)}</h2>{_text(tags.get(tag, ''))}{''.join(shown)}"


def _operation(path: str, method: str, operation: Mapping[str, Any]) -> str:
    head = f"<code>{method} {escape(path)}</code> {escape(operation['summary'])}"
    if operation.get("deprecated"):
        head += " (deprecated)"
    security = " and ".join(name for scheme in operation.get("security", []) for name in scheme)
    parts = [
        _text(operation.get("description", "")),
        f"<p>Caller: {escape(security)}</p>" if security else "",
        _parameters(operation.get("parameters", [])),
        *_contents("Request", operation.get("requestBody", {}).get("content", {})),
    ]
    for status, answer in operation["responses"].items():
        headers = "".join(f" <code>{escape(name)}</code>" for name in answer.get("headers", {}))
        parts.append(f"<h4>{escape(status)}{headers}</h4>{_text(answer['description'])}")
        parts.extend(_contents("Answer", answer.get("content", {})))
    return f"<details><summary>{head}</summary>{''.join(parts)}</details>"


def _parameters(parameters: Iterable[Mapping[str, Any]]) -> str:
    lines = "".join(
        f"<tr><td><code>{escape(each['name'])}</code></td><td>{each['in']}"
        f"{', required' if each.get('required') else ''}</td>"
        f"<td>{_text(each.get('description', ''))}{_json(each['schema'])}</td></tr>"
        for each in parameters
    )
    return f"<table><tr><th>parameter<th>in<th></tr>{lines}</table>" if lines else ""


def _contents(what: str, contents: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    for media_type, content in contents.items():
        shown = "".join(_json(content[part]) for part in ("schema", "example") if content.get(part))
        for example in content.get("examples", {}).values():
            shown += _json(example["value"])
        kind = escape(media_type)
        yield f"<details><summary>{what}: <code>{kind}</code></summary>{shown}</details>"


def _security(schemes: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    if schemes:
        yield "<h2>Callers</h2>"
        for name, scheme in schemes.items():
            yield f"<h3>{escape(name)}</h3>{_json(scheme)}"


def _schemas(schemas: Mapping[str, Any]) -> Iterator[str]:
    for name, schema in schemas.items():
        yield f"<details><summary><code>{escape(name)}</code></summary>{_json(schema)}</details>"


def _text(text: str) -> str:
    """Show text with lines of a list, as :mod:`cms.faces.openapi` writes it."""
    return "".join(f"<p>{escape(line)}</p>" for line in text.splitlines())


def _json(value: object) -> str:
    return f"<pre>{escape(json.dumps(value, indent=2, ensure_ascii=False))}</pre>"

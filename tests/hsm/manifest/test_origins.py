"""An origin is registered as a browser writes it, or not at all."""

import pytest

from hsm.manifest.origins import is_app_origin, is_app_scheme, is_web_origin


@pytest.mark.parametrize(
    "text",
    [
        "https://app.example",
        "https://app.example:8443",
        "https://a.b-c.xn--bcher-kva.example",
        "https://localhost",
        "https://1and1.example",
    ],
)
def test_an_https_origin_is_one(text: str) -> None:
    assert is_web_origin(text, sandbox=False)


@pytest.mark.parametrize(
    "text",
    [
        *("", "*", "null", "https:", "https://", "//app.example", "app.example", "javascript:x"),
        *("http://app.example", "ftp://app.example", "data://app.example", "wss://app.example"),
        *("https://app.example/", "https://app.example/a", "https://app.example?a", "https://a#b"),
        *("https://app.example:", "https://app.example:0", "https://app.example:443"),
        *("https://app.example:65536", "https://app.example:08443", "https://app.example:x"),
        *("https://app.example:99999", "https://user@app.example", "https://u:p@app.example"),
        *("https://*.app.example", "https://APP.example", "HTTPS://app.example"),
        *("https://bücher.example", "https://app_1.example", "https://-app.example"),
        *("https://app-.example", "https://app..example", "https://app.example.", "https://.a"),
        *("https://192.0.2.1", "https://[2001:db8::1]", "https://1", "https://app.1:8443"),
        *("https://app.example\n", " https://app.example", "https://a b", "https://app.example;"),
        *("https://app.example https://evil.example", "https://app\\.example", "https://a%2eb"),
        "https://" + ".".join(["a" * 60] * 5),
        "https://" + "a" * 64,
    ],
)
@pytest.mark.parametrize("sandbox", [False, True])
def test_anything_else_is_none(text: str, sandbox: bool) -> None:
    assert not is_web_origin(text, sandbox=sandbox)


def test_plain_http_is_for_localhost_in_a_sandbox() -> None:
    assert is_web_origin("http://localhost:3000", sandbox=True)
    assert not is_web_origin("http://localhost:3000", sandbox=False)
    for text in ("http://localhost", "http://localhost:80", "http://localhost.evil.example:3000"):
        assert not is_web_origin(text, sandbox=True)


@pytest.mark.parametrize(
    "text",
    [
        *("capacitor://localhost", "ionic://localhost", "tauri://localhost"),
        *("capacitor://app.example", "com.example.app://localhost", "a+b-c.d://x-y.example"),
    ],
)
def test_the_pages_of_an_app_have_an_origin_of_its_framework(text: str) -> None:
    assert is_app_origin(text)
    assert not is_web_origin(text, sandbox=True)
    assert not is_app_scheme(text)


@pytest.mark.parametrize(
    "text",
    [
        *("", "*", "null", "capacitor:", "capacitor://", "capacitor:localhost", "://localhost"),
        *("capacitor://localhost/", "capacitor://localhost/a", "capacitor://localhost?a"),
        *("capacitor://localhost#a", "capacitor://localhost:3000", "capacitor://user@localhost"),
        *("capacitor://*", "capacitor://*.example", "capacitor://a..b", "capacitor://-a"),
        *("Capacitor://localhost", "capacitor://LOCALHOST", "1capacitor://localhost"),
        *("capacitor://localhost ionic://localhost", "capacitor://localhost;", "a_b://localhost"),
        *("capacitor://localhost\n", " capacitor://localhost", "capacitor://local,host"),
        *("http://localhost", "https://localhost", "ws://localhost", "wss://localhost"),
        *("ftp://localhost", "file://localhost", "javascript://localhost", "data://localhost"),
        *("blob://localhost", "about://blank", "chrome://settings", "content://localhost"),
        *("chrome-extension://abcdef", "moz-extension://abcdef", "intent://localhost"),
        *("view-source://localhost", "filesystem://localhost", "null://localhost"),
        "capacitor://" + ".".join(["a" * 60] * 5),
    ],
)
def test_anything_else_is_no_origin_of_an_app(text: str) -> None:
    assert not is_app_origin(text)


def test_an_app_has_a_scheme_in_reverse_domain_notation() -> None:
    assert is_app_scheme("com.example.app:")
    for text in (
        *("javascript:", "data:", "file:", "http:", "https:", "about:", "intent:", "app:"),
        *("com.example.app", "com.example.app://", "Com.Example.App:", "com..app:", ".com.app:"),
        *("com.example.app:x", "com.example.app:\n", "1.com:", ""),
    ):
        assert not is_app_scheme(text)

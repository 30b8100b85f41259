"""What connections send, well framed or not, and the requests that h11 sees in it."""

import random
from dataclasses import dataclass

import h11

from cms.protocol import HEAD_BYTES_MAX


@dataclass
class Seen:
    """A request as a parser saw it."""

    method: bytes
    target: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes = b""
    complete: bool = False

    def agrees(self, other: "Seen", *, cut_off: bool) -> bool:
        """Tell whether this is *other*; as much of its body as was read, when it was cut off."""
        head = (self.method, self.target, self.headers)
        if head != (other.method, other.target, other.headers):
            return False
        if cut_off and not self.complete:
            return other.body.startswith(self.body)
        return (self.body, self.complete) == (other.body, other.complete)


def seen_by_h11(stream: bytes) -> list[Seen]:
    """Return the requests that h11 finds, each answered before the next is looked for."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_BYTES_MAX)
    connection.receive_data(stream)
    found: list[Seen] = []
    try:
        while True:
            match connection.next_event():
                case h11.Request() as request:
                    headers = list(request.headers)
                    found.append(Seen(request.method, request.target, headers))
                case h11.Data() as data:
                    found[-1].body += data.data
                case h11.EndOfMessage():
                    found[-1].complete = True
                    answer = h11.Response(status_code=404, headers=[(b"content-length", b"0")])
                    connection.send(answer)
                    connection.send(h11.EndOfMessage())
                    if connection.our_state is h11.MUST_CLOSE:
                        return found
                    connection.start_next_cycle()
                case _:
                    return found
    except h11.RemoteProtocolError:
        return found


class Streams:
    """Makes what connections send, from a seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._faulty = False

    def make(self) -> list[bytes]:
        """One to four requests, cut into pieces anywhere."""
        self._faulty = self._random.random() < 0.5
        stream = b"".join(self._request() for _ in range(self._random.randint(1, 4)))
        if self._faulty and self._random.random() < 0.3:
            stream = self._with_another_byte(stream)
        cuts = sorted(self._random.sample(range(len(stream)), self._random.choice((0, 1, 2, 9))))
        ends = zip([0, *cuts], [*cuts, len(stream)], strict=True)
        return [stream[begin:end] for begin, end in ends]

    def _odd(self, usual: bytes, *faults: bytes) -> bytes:
        """What is usual; in a faulty stream sometimes a fault."""
        faulty = self._faulty and self._random.random() < 0.05
        return self._random.choice(faults) if faulty else usual

    def _request(self) -> bytes:
        pick, odd = self._random.choice, self._odd
        method = odd(pick(METHODS), b"CONNECT", b"get", b"PRI", b"FOO", b"M-SEARCH", b"")
        target = odd(pick(TARGETS), b"*", b"http://x/a", b"x:443", b"/#a", b"/a\x80", b"", b"/a b")
        version = odd(pick(VERSIONS), b"HTTP/1.2", b"HTTP/2.0", b"HTTP/0.9", b"http/1.1", b"")
        space = odd(b" ", b"  ", b"\t")
        host = odd(b"Host: x", b"X-No: host", b"Host: x\r\nHost: y", b"Host : x", b" Host: x")
        lines = [space.join((method, target, version)), host]
        lines += [odd(pick(HEADERS), *FAULTY_HEADERS) for _ in range(pick((0, 0, 1, 3)))]
        framing, body = self._framed(pick(BODIES))
        lines[self._random.randint(2, len(lines)) : 0] = framing
        before, line_end = odd(b"", b"\r\n", b"\n", b" ", b"\0"), odd(b"\r\n", b"\n", b"\r")
        end = odd(b"\r\n\r\n", b"\n\n", b"\r\n\n", b"\n\r\n", b"\r\n")
        return before + line_end.join(lines) + end + body

    def _framed(self, body: bytes) -> tuple[list[bytes], bytes]:
        """Frame *body*: no header and no body, a length, or chunks."""
        how = self._random.choice(("none", "length", "chunks"))
        if how == "none":
            return [], b""
        if how == "length":
            return [self._length(b"%d" % len(body), b"%d" % (len(body) + 3))], body
        return [self._coding()], self._chunks(body)

    def _length(self, size: bytes, other: bytes) -> bytes:
        odd = self._odd
        signed, twice, hexadecimal = b"+" + size, size + b", " + size, b"0x" + size
        value = odd(size, signed, twice, hexadecimal, other, b"", b"-1", b"9" * 19, b"9" * 30)
        name = odd(b"Content-Length: ", b"content-length:", b"Content-Length : ")
        line = name + value
        return odd(line, line + b"\r\n" + line, line + b"\r\n" + name + other)

    def _coding(self) -> bytes:
        odd = self._odd
        value = odd(b"chunked", b"CHUNKED", b"chunked ", b"chunked, chunked", b"xchunked", b"")
        line = b"Transfer-Encoding: " + odd(value, b"gzip, chunked", b"identity", b"chunked;a=b")
        length = b"Content-Length: 3"
        return odd(line, line + b"\r\n" + line, line + b"\r\n" + length, length + b"\r\n" + line)

    def _chunks(self, body: bytes) -> bytes:
        odd, written = self._odd, b""
        while body:
            taken = self._random.randint(1, len(body))
            size = b"%x" % taken
            written += odd(size, size.upper(), b"0x" + size, b" " + size, b"-" + size, b"f" * 17)
            written += odd(b"", b";a", b';a="b"', b";a\n", b";\0", b" ;a", b"a", b"\t")
            written += odd(b"\r\n", b"\n") + body[:taken] + odd(b"\r\n", b"\n", b"", b"xx")
            body = body[taken:]
        written += odd(b"0", b"000", b"0;a", b"0" * 30) + odd(b"\r\n", b"\n")
        for line in self._random.sample(HEADERS, self._random.choice((0, 0, 2))):
            written += odd(line, *FAULTY_HEADERS) + odd(b"\r\n", b"\n")
        return written + odd(b"\r\n", b"\n", b"")

    def _with_another_byte(self, stream: bytes) -> bytes:
        at = self._random.randrange(len(stream))
        others = (b"", b"\0", b"\r", b"\n", b" ", b":", b"0", b"\x80", stream[at : at + 1] * 2)
        return stream[:at] + self._random.choice(others) + stream[at + 1 :]


METHODS = [b"GET", b"POST", b"PUT", b"HEAD", b"DELETE", b"OPTIONS"]
TARGETS = [b"/", b"/a?b=c", b"//a/b?c?d", b"/%2e%2e/%00", b"/a??b"]
VERSIONS = [b"HTTP/1.1"] * 9 + [b"HTTP/1.0"]
BODIES = [b"", b"a", b"a\r\n\r\nb", b"GET /in HTTP/1.1\r\nHost: x\r\n\r\n", b"x" * 300]
HEADERS = [
    b"X-Forwarded-For: 192.0.2.1",
    b"Client-Cert: :AAAA:",
    b"Connection: keep-alive",
    b"Connection: Upgrade\r\nUpgrade: h2c",
    b"Upgrade: websocket\r\nConnection: keep-alive, upgrade",
    b"Trailer: X-A",
    b"TE: trailers",
    b"X-A: a \t",
    b"X-A:",
    b"X-A: \xff",
    b"X_A: a",
]
FAULTY_HEADERS = [
    b"Connection: close",
    b"Connection: a ,\tCLOSE",
    b"Expect: 100-continue",
    b"X-A: a\r\n b",
    b"X-A : a",
    b"X-A: a\0b",
    b"X-A: a\x01b",
    b"X-A: a\rb",
    b"X-A",
    b"Transfer-Encoding: chunked",
    b"Content-Length: 1",
]

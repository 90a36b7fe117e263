"""The head of a request: read by the grammar of RFC 9112, and refused wherever two readers might disagree.

Two parsers have to accept it: the expressions below, which also take it apart, and llhttp. What either refuses is
refused.
"""

from __future__ import annotations

import re

import httptools

from nameko.web._errors import RequestRefused

_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
# Nothing in these can match in two ways, so that they take time in proportion to the head and no more.
_HEAD = re.compile(rf"({_TOKEN}) ([\x21-\x7e]+) HTTP/([0-9]\.[0-9])\r\n((?:{_TOKEN}:[\t\x20-\x7e\x80-\xff]*\r\n)*)\r\n")
_FIELD = re.compile(r"([^:\r]+):([^\r]*)\r\n")
_REQUEST_LINE = re.compile(rf"{_TOKEN} [\x21-\x7e]+ HTTP/[0-9]\.[0-9]")
# What can never become a head, however it goes on: a line feed on its own, a carriage return on its own, another
# control character, or something before the method.
_HOPELESS = re.compile(rb"(?<!\r)\n|\r(?!\n|\Z)|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\A[^!#$%&'*+\-.^_`|~0-9A-Za-z]")
# Before any other protocol, the body has to be read. httptools sees none where another protocol is asked for.
_UPGRADE = re.compile(rb"(?<=\n)upgrade:[^\r]*\r\n", re.IGNORECASE)
_CONTENT_LENGTH = re.compile(r"[0-9]{1,18}", re.ASCII)
# RFC 3986: a name, an IPv4 address or an IPv6 address in brackets, and a port.
_HOST = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z\-._~!$&'()*+,;=%]+)(?::[0-9]{0,5})?", re.ASCII)
# What llhttp takes for a target of any method, whatever comes before and behind it.
_PLAIN_TARGET = re.compile(rb"/[0-9A-Za-z\-._~/?=&%+,;:@!$'()*]*")
_ORIGIN_FORM = re.compile(r"/[^#]*")

#: Fields that make a request ambiguous when they occur twice.
_SINGLE = frozenset({"host", "content-length", "transfer-encoding", "content-type", "expect", "authorization"})


class RequestHead:
    """A request line and its header fields.

    :ivar method: as sent
    :ivar target: path and query as sent, or `*`
    :ivar version: `"1.0"` or `"1.1"`
    :ivar fields: `(name in lower case, value)`, in the order of the request; text in Latin-1, as WSGI has it
    :ivar content_length: of the body; 0 when there is none, None when it comes in chunks
    :ivar keep_alive: whether the client wants to use the connection again
    :ivar expects_continue: whether the client waits for `100 Continue` before it sends the body
    :ivar before_target: the bytes before the target, and
    :ivar after_target: those behind it
    """

    __slots__ = (
        "after_target", "before_target", "content_length", "expects_continue", "fields", "keep_alive", "method",
        "target", "version",
    )  # fmt: skip

    def __init__(
        self, method: str, target: str, version: str, fields: list[tuple[str, str]], around_target: tuple[bytes, bytes]
    ) -> None:
        self.method = method
        self.target = target
        self.version = version
        self.fields = fields
        self.before_target, self.after_target = around_target
        self.content_length: int | None = 0
        self.keep_alive = version == "1.1"
        self.expects_continue = False

    def with_target(self, target: str) -> RequestHead:
        """The same head, with another target."""
        around_target = self.before_target, self.after_target
        head = RequestHead(self.method, target, self.version, self.fields, around_target)
        head.content_length = self.content_length
        head.keep_alive = self.keep_alive
        head.expects_continue = self.expects_continue
        return head


class _EndSeen:
    """What llhttp reports to: whether the message is complete."""

    __slots__ = ("message_complete",)

    def __init__(self) -> None:
        self.message_complete = False

    def on_message_complete(self) -> None:
        self.message_complete = True


class Witness:
    """llhttp, reading the same bytes: it must accept them, and see the message end where we do."""

    def __init__(self) -> None:
        self._seen = _EndSeen()
        self._parser = httptools.HttpRequestParser(self._seen)

    def read(self, data: bytes) -> None:
        """Let it read on.

        :raises RequestRefused: when it does not accept `data`, or sees the message end before all of it
        """
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as exc:
            # Raised at the end of any message that asks for another protocol, whether that is granted or not.
            if exc.args[0] != len(data):
                raise RequestRefused(400, "Malformed request: the message ends too early") from None
        except httptools.HttpParserInvalidMethodError:
            raise RequestRefused(501, "Unknown request method") from None
        except httptools.HttpParserError as exc:
            raise RequestRefused(400, f"Malformed request: {exc}") from None

    @property
    def message_complete(self) -> bool:
        """Whether it has seen the end of the message."""
        return self._seen.message_complete


def check_beginning(data: bytes, checked_bytes: int) -> None:
    """Refuse the beginning of a head that can come to no good, without waiting for the rest.

    :param checked_bytes: how much of it was checked before
    :raises RequestRefused: when `data` holds what no head may hold
    """
    if _HOPELESS.search(data, max(0, checked_bytes - 1)):
        raise RequestRefused(400, "Malformed request")


def parse_head(data: bytes, max_fields: int, last: RequestHead | None = None) -> tuple[RequestHead, Witness | None]:
    """The head in `data`, which ends with the empty line; and llhttp, having read it, for a body in chunks.

    :param last: the head before it on the same connection. Most clients send the same fields each time: then what was
        found out about them holds, and neither they nor llhttp need to be asked again. There is no llhttp then.
    :raises RequestRefused: when it is malformed or ambiguous, or has more than `max_fields` fields
    """
    if last is not None:
        target = _target_of_alike(last, data)
        if target is not None:
            return last.with_target(target), None
    match = _HEAD.fullmatch(data.decode("latin-1"))
    if match is None:
        raise RequestRefused(400, _complaint(data))
    method, target, version, lines = match.groups()
    if version != "1.1" and version != "1.0":
        raise RequestRefused(505, "HTTP version not supported")
    fields = [(name.lower(), value.strip(" \t")) for name, value in _FIELD.findall(lines)]
    if len(fields) > max_fields:
        raise RequestRefused(431, "Too many header fields")
    head = RequestHead(method, target, version, fields, (data[: match.start(2)], data[match.end(2) :]))
    _interpret(head)
    witness = Witness()
    witness.read(data if head.content_length == 0 else _UPGRADE.sub(b"", data))
    if (head.content_length == 0) != witness.message_complete:
        raise RequestRefused(400, "Malformed request: it is not clear where it ends")
    return head, witness


def _target_of_alike(last: RequestHead, data: bytes) -> str | None:
    # Of a body in chunks, llhttp has to read every byte.
    before, after = last.before_target, last.after_target
    if last.content_length is None or not (data.endswith(after) and data.startswith(before)):
        return None
    target = data[len(before) : -len(after)]
    return None if _PLAIN_TARGET.fullmatch(target) is None else target.decode("ascii")


def _complaint(data: bytes) -> str:
    line = data[: data.find(b"\r\n")].decode("latin-1")
    part = "header field" if _REQUEST_LINE.fullmatch(line) else "request line"
    return f"Malformed request: bad {part}"


def _interpret(head: RequestHead) -> None:
    fields = dict(head.fields)
    if len(fields) != len(head.fields):
        _refuse_repetitions(head.fields)
    _check_target(head)
    _check_host(head, fields.get("host"))
    if "content-length" in fields or "transfer-encoding" in fields:
        head.content_length = _content_length(head, fields)
    if "connection" in fields:
        head.keep_alive = _keep_alive(head)
    if "expect" in fields:
        head.expects_continue = _expects_continue(head, fields["expect"])


def _refuse_repetitions(fields: list[tuple[str, str]]) -> None:
    seen = set()
    for name, _ in fields:
        if name in seen and name in _SINGLE:
            raise RequestRefused(400, f"Malformed request: more than one {name} field")
        seen.add(name)


def _check_target(head: RequestHead) -> None:
    if _ORIGIN_FORM.fullmatch(head.target) is None and (head.method != "OPTIONS" or head.target != "*"):
        raise RequestRefused(400, "Malformed request: the target must be a path")


def _check_host(head: RequestHead, host: str | None) -> None:
    if host is None:
        if head.version == "1.1":
            raise RequestRefused(400, "Malformed request: no Host field")
    elif _HOST.fullmatch(host) is None:
        raise RequestRefused(400, "Malformed request: bad Host field")


def _content_length(head: RequestHead, fields: dict[str, str]) -> int | None:
    encoding = fields.get("transfer-encoding")
    if encoding is None:
        length = fields["content-length"]
        if _CONTENT_LENGTH.fullmatch(length) is None:
            raise RequestRefused(400, "Malformed request: bad Content-Length field")
        return int(length)
    if "content-length" in fields:
        raise RequestRefused(400, "Malformed request: both Content-Length and Transfer-Encoding")
    if encoding.lower() != "chunked" or head.version == "1.0":
        raise RequestRefused(400, "Malformed request: no Transfer-Encoding is understood but chunked, of HTTP/1.1")
    return None


def _keep_alive(head: RequestHead) -> bool:
    options = {
        option.strip(" \t").lower()
        for name, value in head.fields
        if name == "connection"
        for option in value.split(",")
    }
    if "close" in options:
        return False
    return head.version == "1.1" or "keep-alive" in options


def _expects_continue(head: RequestHead, expectation: str) -> bool:
    if expectation.lower() != "100-continue":
        raise RequestRefused(417, "Unknown expectation")
    return head.version == "1.1"

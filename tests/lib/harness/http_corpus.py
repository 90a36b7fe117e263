"""Requests that a strict HTTP server refuses, by what is wrong with them, and valid ones.

`INVALID` and `VALID` are our own. `gunicorn_requests` reads those of gunicorn's tests, which are under its licence.
"""

from __future__ import annotations

import re
from pathlib import Path

NEXT = b"GET /next HTTP/1.1\r\nHost: h\r\n\r\n"


def get(*fields: bytes, line: bytes = b"GET / HTTP/1.1", host: bytes | None = b"Host: h") -> bytes:
    lines = [line, *([host] if host is not None else []), *fields, b"", b""]
    return b"\r\n".join(lines)


def post(*fields: bytes, body: bytes = b"", line: bytes = b"POST / HTTP/1.1") -> bytes:
    return get(*fields, line=line) + body


def chunks(body: bytes, *fields: bytes) -> bytes:
    return post(b"Transfer-Encoding: chunked", *fields, body=body)


def sized(value: bytes, body: bytes = b"abc") -> bytes:
    return post(b"Content-Length:" + value, body=body)


def encoded(value: bytes) -> bytes:
    return post(b"Transfer-Encoding:" + value, body=b"3\r\nabc\r\n0\r\n\r\n")


CONTROL_CHARACTERS = [bytes([code]) for code in (*range(0x09), 0x0B, 0x0C, *range(0x0E, 0x20), 0x7F)]

INVALID: dict[str, bytes] = {
    # The request line.
    "empty line first": b"\r\n" + get(),
    "bare line feed first": b"\n" + get(),
    "space first": b" " + get(),
    "no version": get(line=b"GET /"),
    "no target": get(line=b"GET HTTP/1.1"),
    "empty target": get(line=b"GET  HTTP/1.1"),
    "two spaces before the version": get(line=b"GET /  HTTP/1.1"),
    "tab for space": get(line=b"GET\t/ HTTP/1.1"),
    "space at the end": get(line=b"GET / HTTP/1.1 "),
    "space in the target": get(line=b"GET /a b HTTP/1.1"),
    "no method": get(line=b" / HTTP/1.1"),
    "method with a bracket": get(line=b"GE(T / HTTP/1.1"),
    "method with a colon": get(line=b"GET: / HTTP/1.1"),
    "method not in Latin": get(line=b"G\xc3\x89T / HTTP/1.1"),
    "unknown method": get(line=b"FROB / HTTP/1.1"),
    "method in lower case": get(line=b"get / HTTP/1.1"),
    "CONNECT": get(line=b"CONNECT h:80 HTTP/1.1"),
    "preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "absolute target": get(line=b"GET http://h/ HTTP/1.1"),
    "absolute target of another host": get(line=b"GET http://other/ HTTP/1.1"),
    "target without a slash": get(line=b"GET index HTTP/1.1"),
    "authority as target": get(line=b"GET h:80 HTTP/1.1"),
    "asterisk for GET": get(line=b"GET * HTTP/1.1"),
    "query alone as target": get(line=b"GET ?a HTTP/1.1"),
    "fragment in the target": get(line=b"GET /a#b HTTP/1.1"),
    "bytes beyond ASCII in the target": get(line=b"GET /\xc3\xa9 HTTP/1.1"),
    "deletion in the target": get(line=b"GET /\x7f HTTP/1.1"),
    "nul in the target": get(line=b"GET /\x00 HTTP/1.1"),
    "version 0.9": get(line=b"GET / HTTP/0.9"),
    "simple request of HTTP/0.9": b"GET /\r\n\r\n",
    "version 1.2": get(line=b"GET / HTTP/1.2"),
    "version 2.0": get(line=b"GET / HTTP/2.0"),
    "version without a minor": get(line=b"GET / HTTP/1"),
    "version with three digits": get(line=b"GET / HTTP/1.10"),
    "version with a leading zero": get(line=b"GET / HTTP/01.1"),
    "version with a comma": get(line=b"GET / HTTP/1,1"),
    "version in lower case": get(line=b"GET / http/1.1"),
    "another protocol": get(line=b"GET / RTSP/1.1"),
    "something behind the version": get(line=b"GET / HTTP/1.1x"),
    "start of a TLS connection": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 50,
    "a response": b"HTTP/1.1 200 OK\r\nHost: h\r\n\r\n",
    # Lines.
    "line feeds alone": get().replace(b"\r\n", b"\n"),
    "line feed alone behind the request line": get().replace(b"\r\n", b"\n", 1),
    "line feed alone at the end": get()[:-2] + b"\n",
    "carriage return alone": get().replace(b"\r\n", b"\r", 1),
    "carriage return in a value": get(b"X: a\rb"),
    "carriage return twice": get(b"X: a\r"),
    "line feed in a value": get(b"X: a\nY: b"),
    "folded value": get(b"X: a\r\n b"),
    "folded with a tab": get(b"X: a\r\n\tb"),
    "first field folded": get(b" X: a", host=None) + get(),
    "space before the first field": get(host=b" Host: h"),
    "folded framing": post(b"Transfer-Encoding:\r\n chunked", body=b"0\r\n\r\n"),
    # Fields.
    "space before the colon": get(b"X : a"),
    "tab before the colon": get(b"X\t: a"),
    "space before the colon of a length": post(b"Content-Length : 3", body=b"abc"),
    "space before the colon of an encoding": post(b"Transfer-Encoding : chunked", body=b"0\r\n\r\n"),
    "field without a colon": get(b"X"),
    "field without a name": get(b": a"),
    "space in a name": get(b"X Y: a"),
    "quotes in a name": get(b'"X": a'),
    "brackets in a name": get(b"X[]: a"),
    "bytes beyond ASCII in a name": get(b"X\xff: a"),
    "name of a request line": get(b"GET / HTTP/1.1"),
    # Host.
    "no Host": get(host=None),
    "Host twice": get(b"Host: h"),
    "Host twice, differing": get(b"Host: other"),
    "Host twice in HTTP/1.0": get(b"Host: h", line=b"GET / HTTP/1.0"),
    "empty Host": get(host=b"Host:"),
    "two hosts in one field": get(host=b"Host: a, b"),
    "Host with a space": get(host=b"Host: a b"),
    "Host with a path": get(host=b"Host: h/x"),
    "Host with a user": get(host=b"Host: user@h"),
    "Host with a bad port": get(host=b"Host: h:8o"),
    "Host with two ports": get(host=b"Host: h:80:80"),
    "Host with half a bracket": get(host=b"Host: [::1"),
    # The length.
    "negative length": sized(b" -3"),
    "length with a plus": sized(b" +3"),
    "length with an underscore": sized(b" 1_0", b"a" * 10),
    "hexadecimal length": sized(b" 0x3"),
    "length with a space in it": sized(b" 3 3"),
    "length with letters": sized(b" 3a"),
    "empty length": sized(b""),
    "fractional length": sized(b" 3.0"),
    "length in other digits": sized(b" \xb2"),
    "list of lengths": sized(b" 3, 3"),
    "list of differing lengths": sized(b" 3, 4"),
    "length too large for anybody": sized(b" 99999999999999999999"),
    "length twice": post(b"Content-Length: 3", b"Content-Length: 3", body=b"abc"),
    "length twice, differing": post(b"Content-Length: 3", b"Content-Length: 4", body=b"abcd"),
    "length in quotes": sized(b' "3"'),
    # The encoding.
    "length and encoding": post(b"Content-Length: 3", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
    "encoding and length": post(b"Transfer-Encoding: chunked", b"Content-Length: 3", body=b"0\r\n\r\n"),
    "encoding twice": post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
    "encoding twice, differing": post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity", body=b"0\r\n\r\n"),
    "identity": encoded(b" identity"),
    "gzip": encoded(b" gzip"),
    "gzip, then chunked": encoded(b" gzip, chunked"),
    "chunked, then gzip": encoded(b" chunked, gzip"),
    "chunked twice in one field": encoded(b" chunked, chunked"),
    "chunked in an empty list": encoded(b" , chunked"),
    "unknown encoding": encoded(b" xchunked"),
    "encoding with a parameter": encoded(b" chunked;a=b"),
    "encoding in quotes": encoded(b' "chunked"'),
    "vertical tab before the encoding": encoded(b" \x0bchunked"),
    "tab behind the encoding": encoded(b" chunked\t"),
    "no encoding": encoded(b""),
    "chunked in HTTP/1.0": post(b"Transfer-Encoding: chunked", body=b"3\r\nabc\r\n0\r\n\r\n", line=b"POST / HTTP/1.0"),
    # Chunks.
    "negative chunk": chunks(b"-2\r\nab\r\n0\r\n\r\n"),
    "chunk with a plus": chunks(b"+2\r\nab\r\n0\r\n\r\n"),
    "chunk size with a prefix": chunks(b"0x2\r\nab\r\n0\r\n\r\n"),
    "chunk size with an underscore": chunks(b"0_2\r\nab\r\n0\r\n\r\n"),
    "chunk size with letters": chunks(b"g\r\nab\r\n0\r\n\r\n"),
    "chunk without a size": chunks(b"\r\nab\r\n0\r\n\r\n"),
    "chunk with nothing but an extension": chunks(b";a\r\nab\r\n0\r\n\r\n"),
    "space before a chunk size": chunks(b" 2\r\nab\r\n0\r\n\r\n"),
    "space behind a chunk size": chunks(b"2 \r\nab\r\n0\r\n\r\n"),
    "tab behind a chunk size": chunks(b"2\t\r\nab\r\n0\r\n\r\n"),
    "line feed alone behind a chunk size": chunks(b"2\nab\r\n0\r\n\r\n"),
    "carriage return alone behind a chunk size": chunks(b"2\rab\r\n0\r\n\r\n"),
    "line feed alone behind a chunk": chunks(b"2\r\nab\n0\r\n\r\n"),
    "nothing behind a chunk": chunks(b"2\r\nab0\r\n\r\n"),
    "longer chunk than announced": chunks(b"2\r\nabc\r\n0\r\n\r\n"),
    "shorter chunk than announced": chunks(b"4\r\nab\r\n0\r\n\r\n"),
    "line feed alone at the end of the body": chunks(b"2\r\nab\r\n0\r\n\n"),
    "line feed alone behind the last chunk": chunks(b"2\r\nab\r\n0\n\r\n"),
    "chunk size too large for anybody": chunks(b"fffffffffffffffff\r\nab\r\n0\r\n\r\n"),
    "chunk size that would wrap around": chunks(b"10000000000000002\r\nab\r\n0\r\n\r\n"),
    "control character in an extension": chunks(b"2;a=\x00\r\nab\r\n0\r\n\r\n"),
    "line feed in an extension": chunks(b"2;a\nb\r\nab\r\n0\r\n\r\n"),
    "carriage return in an extension": chunks(b"2;a\rb\r\nab\r\n0\r\n\r\n"),
    "endless extension": chunks(b"2;" + b"a" * 5000 + b"\r\nab\r\n0\r\n\r\n"),
    "trailer without a colon": chunks(b"0\r\nX\r\n\r\n"),
    "trailer with a space before the colon": chunks(b"0\r\nX : a\r\n\r\n"),
    "length in the trailers": chunks(b"0\r\nContent-Length: 5\r\n\r\n"),
    "encoding in the trailers": chunks(b"0\r\nTransfer-Encoding: gzip\r\n\r\n"),
    "host in the trailers": chunks(b"0\r\nhOst: other\r\n\r\n"),
    "end of the connection in the trailers": chunks(b"0\r\nConnection: close\r\n\r\n"),
    "trailer that is folded": chunks(b"0\r\nX: a\r\n b\r\n\r\n"),
    "trailer with a line feed": chunks(b"0\r\nX: a\nY: b\r\n\r\n"),
    "trailer with a nul": chunks(b"0\r\nX: \x00\r\n\r\n"),
    "request line for a trailer": chunks(b"0\r\nGET /next HTTP/1.1\r\nHost: h\r\n\r\n"),
    "endless trailers": chunks(b"0\r\n" + b"X: abcdefghijklmnop\r\n" * 1000 + b"\r\n"),
    # Expectations.
    "unknown expectation": post(b"Expect: 200-ok", b"Content-Length: 3", body=b"abc"),
    # Too much.
    "long request line": get(line=b"GET /" + b"a" * 9000 + b" HTTP/1.1"),
    "many fields": get(*[b"X-%d: a" % number for number in range(100)]),
    "large fields": get(*[b"X-%d: %b" % (number, b"a" * 1000) for number in range(40)]),
    "large field": get(b"X: " + b"a" * 40000),
}
INVALID.update({f"{char!r} in a value": get(b"X: a" + char + b"b") for char in CONTROL_CHARACTERS})
INVALID.update({f"{char!r} at the end of a value": get(b"X: a" + char) for char in CONTROL_CHARACTERS})
INVALID.update({f"{char!r} in a name": get(b"X" + char + b"Y: a") for char in CONTROL_CHARACTERS})
INVALID.update({f"{char!r} in the target": get(line=b"GET /" + char + b" HTTP/1.1") for char in CONTROL_CHARACTERS})
INVALID.update({f"{char!r} before chunked": encoded(char + b"chunked") for char in CONTROL_CHARACTERS})
INVALID.update({f"{char!r} behind chunked": encoded(b" chunked" + char) for char in CONTROL_CHARACTERS})
INVALID.update({f"{char!r} before a length": sized(char + b"3") for char in CONTROL_CHARACTERS})
INVALID.update({f"{bytes([code])!r} in a name": get(b"X" + bytes([code]) + b"Y: a") for code in b' "(),/;<=>?@[\\]{}'})

STATUS = {
    "unknown method": 501,
    "method in lower case": 501,
    "a response": 400,
    "version 0.9": 505,
    "version 1.2": 505,
    "version 2.0": 505,
    "preface of HTTP/2": 505,
    "unknown expectation": 417,
    "long request line": 414,
    "many fields": 431,
    "large fields": 431,
    "large field": 431,
}

VALID: dict[str, bytes] = {
    "plain": get(),
    "no Host in HTTP/1.0": get(host=None, line=b"GET / HTTP/1.0"),
    "host and port": get(host=b"Host: example.com:8000"),
    "port without a number": get(host=b"Host: example.com:"),
    "IPv4": get(host=b"Host: 127.0.0.1"),
    "IPv6": get(host=b"Host: [2001:db8::1]:80"),
    "underscore in the host": get(host=b"Host: a_b"),
    "name in capitals": get(host=b"HOST: h"),
    "no space behind the colon": get(b"X:a"),
    "blanks around a value": get(b"X: \t a b\t \t"),
    "empty value": get(b"X:"),
    "blank value": get(b"X:   "),
    "tab in a value": get(b"X: a\tb"),
    "bytes beyond ASCII in a value": get(b"X: \xc3\xa9 \xff"),
    "every character of a name": get(b"!#$%&'*+-.^_`|~09azAZ: a"),
    "every character of a value": get(b"X: " + bytes(range(0x21, 0x7F)) + bytes(range(0x80, 0x100))),
    "colons in a value": get(b"X: :a:b:"),
    "same field twice": get(b"X: a", b"X: b"),
    "a hundred fields": get(*[b"X-%d: a" % number for number in range(99)]),
    "a long request line": get(line=b"GET /" + b"a" * 8000 + b" HTTP/1.1"),
    "a large field": get(b"X: " + b"a" * 30000),
    "percent escapes": get(line=b"GET /%41%zz%?%=%20 HTTP/1.1"),
    "every character of a target": get(line=b"GET /" + bytes(set(range(0x21, 0x7F)) - set(b"#")) + b" HTTP/1.1"),
    "query with a question mark": get(line=b"GET /?a?b=/c HTTP/1.1"),
    "two slashes": get(line=b"GET //a//b HTTP/1.1"),
    "dots": get(line=b"GET /../a/./b HTTP/1.1"),
    "asterisk for OPTIONS": get(line=b"OPTIONS * HTTP/1.1"),
    "length of nothing": sized(b" 0", b""),
    "length": sized(b" 3"),
    "length with zeros": sized(b" 0003"),
    "length without a space": sized(b"3"),
    "length with blanks around": sized(b" \t3 \t"),
    "body of GET": get(b"Content-Length: 3") + b"abc",
    "body that looks like a request": sized(b" 31", NEXT),
    "chunked": chunks(b"3\r\nabc\r\n0\r\n\r\n"),
    "chunked, of nothing": chunks(b"0\r\n\r\n"),
    "chunked in capitals": post(b"TRANSFER-ENCODING: CHUNKED", body=b"3\r\nabc\r\n0\r\n\r\n"),
    "chunked with blanks around": encoded(b" \t chunked  "),
    "chunk sizes in capitals and with zeros": chunks(b"0A\r\nabcdefghij\r\n00\r\n\r\n"),
    "chunk extensions": chunks(b'3;a;b=c;d="e f"\r\nabc\r\n0;z\r\n\r\n'),
    "trailers": chunks(b"0\r\nX: a\r\nY:\r\n\r\n"),
    "chunk that looks like a request": chunks(b"1f\r\n" + NEXT + b"\r\n0\r\n\r\n"),
    "keep-alive": get(b"Connection: keep-alive"),
    "upgrade that is not taken up": get(b"Connection: Upgrade", b"Upgrade: h2c"),
    "upgrade with a body": post(b"Connection: Upgrade", b"Upgrade: h2c", b"Content-Length: 3", body=b"abc"),
    "upgrade with chunks": chunks(b"3\r\nabc\r\n0\r\n\r\n", b"Connection: Upgrade", b"Upgrade: h2c"),
    "expectation with its body": post(b"Expect: 100-continue", b"Content-Length: 3", body=b"abc"),
}
VALID.update(
    {method: get(line=method.encode() + b" / HTTP/1.1") for method in ("HEAD", "PUT", "PATCH", "DELETE", "TRACE")}
)
VALID.update(
    {method: get(line=method.encode() + b" / HTTP/1.1") for method in ("PROPFIND", "MKCOL", "LOCK", "PURGE", "QUERY")}
)


# What gunicorn refuses by settings that its test makes, or on grounds that are not ours.
_NOT_SHARED = {
    **dict.fromkeys(("006", "007", "008", "010", "011", "012", "017", "limit_header_default_01"), "smaller limits"),
    "019": "nobody's X-Forwarded fields are believed",
    "040": "fields with an underscore are left out of the environment",
    "chunked_07": "fields with an underscore are left out of the environment",
}


def gunicorn_requests() -> dict[str, bytes]:
    """The invalid requests of gunicorn 27.0.1 (`tests/requests/invalid`, MIT), by their names.

    Many lack a Host, which is reason enough to refuse them: each of those is there a second time with one, to be
    refused for what it is about.
    """
    found = {}
    for path in sorted((Path(__file__).parent / "gunicorn_requests").glob("*.http")):
        if path.stem in _NOT_SHARED:
            continue
        data = found[path.stem] = _unescaped(path.read_bytes())
        line, end, rest = data.partition(b"\r\n")
        if b"\nhost" not in data.lower() and end:
            found[f"{path.stem}, with a Host"] = line + b"\r\nHost: h\r\n" + rest
    return found


def _unescaped(text: bytes) -> bytes:
    data = text.replace(b"\r", b"").replace(b"\n", b"").replace(b"\\r\\n", b"\r\n")
    data = data.replace(b"\\0", b"\0").replace(b"\\n", b"\n").replace(b"\\t", b"\t")
    return re.sub(rb"\\x([0-9a-f]{2})", lambda match: bytes([int(match[1], 16)]), data)

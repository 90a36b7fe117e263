"""Requests that two readers might understand in two ways are refused; all that is valid is accepted.

Every request of the two lists below is sent in one piece with another request right behind it, and byte by byte.
"""

from __future__ import annotations

import pytest
from werkzeug.wrappers import Request

from harness.http_corpus import INVALID, NEXT, STATUS, VALID
from nameko.web.handlers import http


def single_bytes(data: bytes) -> list[bytes]:
    return [data[position : position + 1] for position in range(len(data))]


@pytest.mark.parametrize("name", INVALID)
def test_invalid_request_is_refused_and_nothing_behind_it_is_served(converse, name):
    data = INVALID[name] + NEXT * 3
    for pieces in ([data], single_bytes(data)):
        conversation = converse(*pieces)
        assert conversation.requests == []
        assert conversation.refused == STATUS.get(name, 400)
        assert conversation.sent.count(b"HTTP/1.1 ") == 1
        assert b"\r\nConnection: close\r\n" in conversation.sent


@pytest.mark.parametrize("name", INVALID)
def test_invalid_request_behind_a_valid_one(converse, name):
    conversation = converse(NEXT + INVALID[name] + NEXT)
    assert [target for _, target, _ in conversation.requests] == ["/next"]
    assert conversation.refused == STATUS.get(name, 400)


@pytest.mark.parametrize("name", INVALID)
def test_invalid_request_behind_one_with_the_same_fields(converse, name):
    """What was found out about fields does not hold for another request line, nor the other way round."""
    line, _, rest = INVALID[name].partition(b"\r\n")
    before = b"GET / HTTP/1.1\r\n" + rest if line.startswith(b"GET") else line + b"\r\nHost: h\r\n\r\n"
    accepted = len(converse(before).requests)
    conversation = converse(before + INVALID[name] + NEXT)
    if accepted and b"HTTP/1.0" not in before:
        assert conversation.refused == STATUS.get(name, 400) or converse(before).refused
        assert len(conversation.requests) <= accepted


@pytest.mark.parametrize("name", VALID)
def test_valid_request_is_the_same_when_repeated(converse, name):
    first, *others = converse(VALID[name] * 3).requests
    if b"HTTP/1.0" not in VALID[name]:
        assert others == [first, first]


@pytest.mark.parametrize("name", VALID)
def test_valid_request_is_served_and_so_is_the_next(converse, name):
    data = VALID[name] + NEXT
    for pieces in ([data], single_bytes(data)):
        conversation = converse(*pieces)
        assert conversation.refused is None
        expected = 1 if b"HTTP/1.0" in VALID[name] else 2
        assert len(conversation.requests) == expected
        if expected == 2:
            assert conversation.requests[1] == ("GET", "/next", b"")


def test_the_refusals_are_the_servers_not_just_the_connections(serve):
    served = []

    class Service:
        name = "service"

        @http("GET,POST", "/")
        def root(self, request: Request) -> str:
            request.get_data()
            served.append("/")
            return ""

        @http("GET", "/next")
        def next(self, request: Request) -> str:
            served.append("/next")
            return ""

    service = serve(Service)
    for name, data in INVALID.items():
        responses = service.exchange(data + NEXT)
        assert [response.status for response in responses] == [STATUS.get(name, 400)], name
    assert served == []

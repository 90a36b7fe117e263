"""Mutated requests: nothing crashes, and no other parser sees a message end elsewhere.

What we accept, h11 and llhttp must accept too, as the same messages with the same bodies; and how the bytes are cut
into pieces must make no difference. `NAMEKO_HTTP_FUZZ` sets how many inputs are tried, `NAMEKO_HTTP_FUZZ_SEED` where to
begin; a failure names the seed of its input.
"""

from __future__ import annotations

import os
import random
import re

import pytest

from harness.http_differential import SEEDS, Llhttp, disagreement, h11_messages

EXECUTIONS = int(os.environ.get("NAMEKO_HTTP_FUZZ", "3000"))
FIRST_SEED = int(os.environ.get("NAMEKO_HTTP_FUZZ_SEED", "0"))

FRAGMENTS = [
    b"\r\n", b"\n", b"\r", b"\r\n\r\n", b" ", b"\t", b"\x00", b"\x0b", b"\x0c", b"\x7f", b"\x80", b"\xff", b":",
    b",", b";", b"0", b"1", b"a", b"F", b"-1", b"+1", b"0x1", b"1_0", b"00", b"0\r\n\r\n", b"1\r\nx\r\n",
    b"99999999999999999999", b"Content-Length: 3\r\n", b"Content-Length: 0\r\n", b"Content-Length:\r\n",
    b"Content-Length: 3, 3\r\n", b"content-length : 5\r\n", b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: identity\r\n", b"Transfer-Encoding: chunked, identity\r\n",
    b"transfer-encoding:\tchunked\r\n", b"Transfer-Encoding: xchunked\r\n", b"Transfer-Encoding : chunked\r\n",
    b"Host: h\r\n", b"Host: other\r\n", b"X: y\r\n", b" folded\r\n", b"Connection: close\r\n", b"HTTP/1.1",
    b"HTTP/1.0", b"HTTP/2.0", b"GET ", b"/", b"?", b"#", b"%00", b"http://x/", b"GET / HTTP/1.1\r\nHost: h\r\n\r\n",
]  # fmt: skip


def make_input(rng: random.Random) -> bytes:
    data = b"".join(rng.choice(SEEDS) * rng.choice((1, 1, 2)) for _ in range(rng.randint(1, 3)))
    for _ in range(rng.choice((0, 1, 1, 1, 2, 3, 5))):
        data = rng.choice(MUTATIONS)(data, rng)
    return data


def insert(data: bytes, rng: random.Random) -> bytes:
    position = rng.randint(0, len(data))
    return data[:position] + rng.choice(FRAGMENTS) + data[position:]


def insert_line(data: bytes, rng: random.Random) -> bytes:
    ends = [match.end() for match in re.finditer(rb"\r\n", data)] or [0]
    position = rng.choice(ends)
    return data[:position] + rng.choice(FRAGMENTS) + data[position:]


def delete(data: bytes, rng: random.Random) -> bytes:
    position = rng.randint(0, len(data))
    return data[:position] + data[position + rng.choice((1, 1, 1, 2, 5)) :]


def replace_byte(data: bytes, rng: random.Random) -> bytes:
    position = rng.randrange(max(1, len(data)))
    return data[:position] + bytes([rng.randrange(256)]) + data[position + 1 :]


def change_case(data: bytes, rng: random.Random) -> bytes:
    position = rng.randrange(max(1, len(data)))
    return data[:position] + data[position : position + 8].swapcase() + data[position + 8 :]


def change_digit(data: bytes, rng: random.Random) -> bytes:
    digits = [match.start() for match in re.finditer(rb"\d", data)]
    if not digits:
        return data
    position = rng.choice(digits)
    return data[:position] + rng.choice((b"0", b"1", b"2", b"5", b"9", b"a", b"10", b"")) + data[position + 1 :]


def repeat_slice(data: bytes, rng: random.Random) -> bytes:
    start = rng.randint(0, len(data))
    end = min(len(data), start + rng.randint(1, 40))
    return data[:end] + data[start:end] + data[end:]


def swap_lines(data: bytes, rng: random.Random) -> bytes:
    lines = data.split(b"\r\n")
    first, second = rng.randrange(len(lines)), rng.randrange(len(lines))
    lines[first], lines[second] = lines[second], lines[first]
    return b"\r\n".join(lines)


MUTATIONS = [insert, insert_line, delete, replace_byte, change_case, change_digit, repeat_slice, swap_lines]


def cut(data: bytes, rng: random.Random) -> list[bytes]:
    places = sorted(rng.randint(0, len(data)) for _ in range(rng.randint(1, 6)))
    return [data[start:end] for start, end in zip([0, *places], [*places, len(data)], strict=True)]


def compare(converse, executions: int) -> None:
    accepted = refused = 0
    for seed in range(FIRST_SEED, FIRST_SEED + executions):
        rng = random.Random(seed)
        data = make_input(rng)
        ours = converse(data)
        assert ours.requests == converse(*cut(data, rng)).requests, seed
        assert disagreement(data, ours.requests) is None, seed
        accepted += len(ours.requests)
        refused += ours.refused is not None
    # Otherwise it would have tried nothing.
    assert accepted > executions / 2
    assert refused > executions / 4


@pytest.mark.timeout(7200 if EXECUTIONS > 3000 else 60)
def test_mutated_requests(converse):
    compare(converse, EXECUTIONS)


@pytest.mark.matrix
@pytest.mark.timeout(3 * 3600)
def test_row_36_a_million_mutated_requests(converse):
    compare(converse, 1_000_000)


def test_a_disagreement_would_be_noticed():
    data = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabcGET /x HTTP/1.1\r\nHost: h\r\n\r\n"
    expected = [("POST", "/", b"abc"), ("GET", "/x", b"")]
    assert h11_messages(data) == expected
    assert Llhttp(data).messages == expected
    assert h11_messages(data.replace(b"Length", b"Lenght")) == [("POST", "/", b""), ("abcGET", "/x", b"")]

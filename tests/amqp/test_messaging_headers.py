"""Context data in headers, and what of foreign headers is believed."""

from __future__ import annotations

import logging
from datetime import datetime
from typing import Any

import pytest

from nameko.messaging import HeaderDecoder, HeaderEncoder, decode_from_headers, encode_to_headers


class TestEncoding:
    def test_keys_get_the_prefix(self) -> None:
        data = {"user_id": 1, "call_id_stack": ["a", "b"]}
        assert encode_to_headers(data) == {"nameko.user_id": 1, "nameko.call_id_stack": ["a", "b"]}
        assert encode_to_headers({"k": "v"}, "other") == {"other.k": "v"}

    def test_none_is_left_out_with_a_warning(self) -> None:
        with pytest.warns(UserWarning, match="None is not sent: a, b"):
            assert encode_to_headers({"b": None, "a": None, "c": 0}) == {"nameko.c": 0}

    def test_an_encoder_sends_the_context_data_of_the_worker(self) -> None:
        class WorkerContext:
            context_data = {"language": "de", "call_id_stack": ["x"]}  # noqa: RUF012

        class Encoder(HeaderEncoder):
            header_prefix = "mine"

        assert HeaderEncoder().get_message_headers(WorkerContext()) == {
            "nameko.language": "de",
            "nameko.call_id_stack": ["x"],
        }
        assert "mine.language" in Encoder().get_message_headers(WorkerContext())


class TestDecoding:
    def test_every_header_is_taken_with_or_without_prefix(self) -> None:
        headers = {"nameko.user_id": 1, "trace": "t", "nameko.call_id_stack": ["a"], "table": {"x": [1]}}
        assert decode_from_headers(headers) == {
            "user_id": 1,
            "trace": "t",
            "call_id_stack": ["a"],
            "table": {"x": [1]},
        }

    @pytest.mark.parametrize("headers", [None, {}])
    def test_there_may_be_none(self, headers: Any) -> None:
        assert decode_from_headers(headers) == {}

    def test_the_prefixed_one_counts_when_both_are_there(self) -> None:
        assert decode_from_headers({"user_id": "foreign", "nameko.user_id": "own"}) == {"user_id": "own"}

    @pytest.mark.parametrize(
        "bad",
        [
            {"nameko.call_id_stack": 5},
            {"nameko.call_id_stack": "text"},
            {"nameko.call_id_stack": [1, 2]},
            {"nameko.call_id_stack": ["a", None]},
            {"call_id_stack": {"a": 1}},
            {"nameko.call_id_stack": None},
            {"nameko.language": 5},
            {"nameko.auth_token": {"a": 1}},
            {"nameko.user_agent": [1]},
            {"nameko.user_id": ["1"]},
        ],
    )
    def test_what_has_the_wrong_type_is_dropped_and_logged(
        self, bad: dict[str, Any], caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.WARNING):
            assert decode_from_headers({**bad, "fine": 1}) == {"fine": 1}
        assert next(iter(bad)) in caplog.text

    def test_a_bad_prefixed_one_does_not_let_a_foreign_one_through_as_nothing(self) -> None:
        assert decode_from_headers({"nameko.language": 5, "language": "de"}) == {"language": "de"}

    def test_the_latest_call_ids_are_kept(self) -> None:
        ids = [str(number) for number in range(250)]
        assert decode_from_headers({"nameko.call_id_stack": ids})["call_id_stack"] == ids[-100:]

    def test_there_is_an_end_to_their_size(self, caplog: pytest.LogCaptureFixture) -> None:
        headers = {"first": "x" * 5000, "second": "y" * 5000, "nameko.own": "z" * 3000, "small": "s"}
        assert decode_from_headers(headers) == {"first": "x" * 5000, "nameko.own"[7:]: "z" * 3000, "small": "s"}
        assert "second" in caplog.text
        assert "yyy" not in caplog.text

    @pytest.mark.parametrize(
        "value",
        [
            "x" * 10_000,
            "é" * 5_000,
            b"x" * 10_000,
            ["x"] * 10_000,
            [["xxxxxxxx"] * 50] * 50,
            {str(number): number for number in range(2_000)},
        ],
    )
    def test_whatever_they_are_made_of(self, value: Any) -> None:
        assert decode_from_headers({"h": value, "other": 1}) == {"other": 1}

    def test_nor_may_they_be_nested_without_end(self) -> None:
        nested: Any = "deep"
        for _ in range(500):
            nested = [nested]
        assert decode_from_headers({"h": nested, "other": datetime(2020, 1, 1)}) == {"other": datetime(2020, 1, 1)}

    def test_names_that_are_no_text_are_ignored(self) -> None:
        assert decode_from_headers({b"\xff": "v", "k": "v"}) == {"k": "v"}

    def test_a_decoder_reads_the_headers_of_a_message(self) -> None:
        class Message:
            headers = {"mine.k": 1, "nameko.k": 2}  # noqa: RUF012

        class Decoder(HeaderDecoder):
            header_prefix = "mine"

        assert HeaderDecoder().unpack_message_headers(Message()) == {"k": 2, "mine.k": 1}
        assert Decoder().unpack_message_headers(Message()) == {"k": 1, "nameko.k": 2}

    def test_public_names_say_where_they_are_found(self) -> None:
        for name in (HeaderDecoder, HeaderEncoder, decode_from_headers, encode_to_headers):
            assert name.__module__ == "nameko.messaging"

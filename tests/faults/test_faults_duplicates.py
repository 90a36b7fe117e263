"""Row 29: a message that comes again says so; and a handler that keeps a note of what it has done does it once."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.matrix, pytest.mark.rabbitmq, pytest.mark.timeout(300)]

Eventually = Callable[..., Any]

EVENTS = 100


def sale(number: int) -> str:
    return json.dumps({"id": f"sale-{number}", "article": "tea", "price": 1})


def bookings(path: Path) -> list[str]:
    with closing(sqlite3.connect(path, timeout=10)) as connection:
        return [row[0] for row in connection.execute("SELECT article FROM bookings")]


def test_row_29_what_a_killed_process_had_comes_again_and_says_so(site: Any, raw: Any, eventually: Eventually) -> None:
    stuck = site.run("subject:Deliveries", max_workers=10)
    for number in range(20):
        raw.send(json.dumps({"number": number, "seconds": 3600}), "told", "outside.events")
    eventually(lambda: len(site.effects("delivered")) == 10)
    assert {line[2] for line in site.effects("delivered")} == {"False"}
    begun = {line[1] for line in site.effects("delivered")}
    stuck.kill()
    site.run("subject:Deliveries", max_workers=20)
    eventually(lambda: len(site.effects("delivered")) == 30)
    again = {line[1]: line[2] for line in site.effects("delivered")[10:]}
    assert again == {str(number): str(str(number) in begun) for number in range(20)}


def test_row_29_what_was_at_work_when_the_connection_was_lost_comes_again_and_says_so(
    node_site: Any, proxy: Any, proxy_uri: str, eventually: Eventually
) -> None:
    raw = node_site.raw()
    node_site.run("subject:Deliveries", AMQP_URI=proxy_uri)
    for number in range(5):
        raw.send(json.dumps({"number": number, "seconds": 1}), "told", "outside.events")
    eventually(lambda: len(node_site.effects("delivered")) == 5)
    assert proxy.reset() == 2
    eventually(lambda: len(node_site.effects("delivered")) == 10)
    assert [line[2] for line in node_site.effects("delivered")] == ["False"] * 5 + ["True"] * 5
    eventually(lambda: raw.ready("evt-outside-told--deliveries.take") == 0)


def test_row_29_a_handler_that_takes_notes_does_it_once(site: Any, raw: Any, eventually: Eventually) -> None:
    database = site.directory / "till.db"
    till = site.run("examples.once", DATABASE=str(database))
    for number in range(EVENTS):
        for _ in range(2):
            raw.send(sale(number), "sold", "shop.events")
        if number % 25 == 10:  # the broker gives what it was at to the next one
            till.kill()
            till = site.run("examples.once", DATABASE=str(database))
    raw.send(sale(EVENTS), "sold", "shop.events")
    eventually(lambda: len(bookings(database)) == EVENTS + 1)
    assert till.stop() == 0
    assert raw.ready("evt-shop-sold--till.book") == 0
    assert len(bookings(database)) == EVENTS + 1

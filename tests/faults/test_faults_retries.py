"""Row 19: an event whose handler always fails is tried again without haste, up to the cap, and parked. None is lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

pytestmark = [pytest.mark.matrix, pytest.mark.rabbitmq, pytest.mark.timeout(300)]

Eventually = Callable[..., Any]

CAP = 20  # the default of RETRY_ATTEMPTS
QUEUE = "evt-outside-failing--failing.always"
EVENTS = 10


def test_row_19_an_event_that_always_fails(site: Any, raw: Any, eventually: Eventually) -> None:
    hosted = site.run("subject:Failing", RETRY_DELAY=0.2, RETRY_MAX_DELAY=0.2)
    for number in range(EVENTS):
        raw.send(str(number), "failing", "outside.events")
    eventually(lambda: raw.ready(f"{QUEUE}.dead") == EVENTS, timeout_s=50)
    tries = site.effects("tried")
    assert Counter(line[1] for line in tries) == {str(number): CAP for number in range(EVENTS)}
    for number in range(EVENTS):
        times = [float(line[2]) for line in tries if line[1] == str(number)]
        assert max(sum(start <= each < start + 1 for each in times) for start in times) <= 5
    assert hosted.stop() == 0
    assert (raw.ready(QUEUE), raw.ready(f"{QUEUE}.retry.200"), raw.ready(f"{QUEUE}.dead")) == (0, 0, EVENTS)
    assert len(site.effects("tried")) == CAP * EVENTS

"""Fuzzes the server's parser, guided by what that covers: `python -m harness.http_atheris CORPUS [OPTION...]`.

The options are libFuzzer's. Needs atheris, which is in no dependency group: it is not built for every Python. Ends with
a status other than 0, and says with which input, when another parser sees messages end elsewhere, when it makes a
difference how the bytes are cut into pieces, or when something is raised that is no refusal.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["nameko.web", "h11"]):
    from harness.http_conversation import Conversation
    from harness.http_differential import SEEDS, disagreement
    from nameko.web._settings import HttpSettings

SETTINGS = HttpSettings.from_config({})


class _Failures(logging.Handler):
    """Raises what a connection logs as an error: it catches all that it did not expect."""

    def emit(self, record: logging.LogRecord) -> None:
        raise AssertionError(record.getMessage()) from (record.exc_info[1] if record.exc_info else None)


def try_one(data: bytes) -> None:
    """Serve a client that sends `data`, whole and byte by byte."""
    requests = Conversation([data], SETTINGS).requests
    cut = [data[position : position + 1] for position in range(len(data))]
    assert Conversation(cut, SETTINGS).requests == requests, "cut into pieces it is something else"
    complaint = disagreement(data, requests)
    assert complaint is None, complaint


def main() -> None:
    """Fuzz as the command line says; does not return."""
    corpus = Path(sys.argv[1])
    for number, seed in enumerate(SEEDS):
        (corpus / f"once-{number}").write_bytes(seed)
        (corpus / f"twice-{number}").write_bytes(seed * 2)  # what is alike is read in another way
    logging.getLogger("nameko.web").addHandler(_Failures(logging.ERROR))
    atheris.Setup(sys.argv, try_one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()

"""Every fenced block of the READMEs and of the documentation does what it says."""

from __future__ import annotations

from typing import Any

import pytest

NOT_CODE = {"text", "mermaid", "{toctree}"}


def test_blocks_of_section_do_what_they_say(section: Any, shell: Any) -> None:
    for block in section.blocks:
        if "skip" not in block.options and block.language not in NOT_CODE:
            shell.run(block)


def test_block_that_is_not_run_says_why(skipped_block: Any) -> None:
    reason = skipped_block.options["skip"]
    assert len(reason.split()) > 2
    pytest.skip(reason)

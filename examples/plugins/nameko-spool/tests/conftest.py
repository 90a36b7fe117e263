"""Tests run as services do: with the standard library monkey patched."""

from nameko.concurrency import monkey_patch

monkey_patch()

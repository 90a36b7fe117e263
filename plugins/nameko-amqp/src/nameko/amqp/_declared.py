"""What has been declared, and is to be declared again after a reconnect."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import TypeAlias

import kombu

Entity: TypeAlias = "kombu.Exchange | kombu.Queue"

#: So many entities that came with messages are remembered. A service may name a new queue with each message.
PASSING_MAX = 256


class DeclaredEntities:
    """Remembers all entities that stay, and of passing ones those that were named last. Iterates over both."""

    def __init__(self) -> None:
        self._staying: dict[Entity, None] = {}
        self._passing: OrderedDict[Entity, None] = OrderedDict()  # the one that was named last comes last

    def __iter__(self) -> Iterator[Entity]:
        return iter([*self._staying, *self._passing])

    def knows(self, entity: Entity) -> bool:
        """Whether it is remembered; one that passes has been named now."""
        if entity in self._passing:
            self._passing.move_to_end(entity)
            return True
        return entity in self._staying

    def add(self, entity: Entity, passing: bool) -> None:
        """Remember it: for ever, or as a passing one."""
        if not passing:
            self._staying[entity] = None
            self._passing.pop(entity, None)
        elif entity not in self._staying:
            self._passing[entity] = None
            if len(self._passing) > PASSING_MAX:
                self._passing.popitem(last=False)

"""The context data of a worker as others get to see it: with the call id stack, and open to changes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, MutableMapping
from typing import Any

from nameko.constants import CALL_ID_STACK_CONTEXT_KEY


class ContextData(dict[str, Any]):
    """The worker's data and its call id stack, as they are now. What is changed here changes in the worker's data too.

    So calls that the worker makes from then on carry it, as in the 3.0 line of nameko. The stack is the framework's
    own: a change of that stays here.

    :param data: the worker's data
    :param call_id_stack: its call id stack
    """

    __slots__ = ("_data",)

    def __init__(self, data: dict[str, Any], call_id_stack: list[str]) -> None:
        dict.__init__(self, data)  # by name, as this is made with each message
        dict.__setitem__(self, CALL_ID_STACK_CONTEXT_KEY, call_id_stack)
        self._data = data

    def __setitem__(self, key: str, value: Any) -> None:
        super().__setitem__(key, value)
        if key != CALL_ID_STACK_CONTEXT_KEY:
            self._data[key] = value

    def __delitem__(self, key: str) -> None:
        super().__delitem__(key)
        self._data.pop(key, None)

    def __ior__(self, other: Mapping[str, Any] | Iterable[tuple[str, Any]]) -> ContextData:  # type: ignore[override,misc]
        self.update(other)
        return self

    def pop(self, key: str, *default: Any) -> Any:
        """Remove `key`, and return its value; where there is none, `default`, if given."""
        if key not in self and default:
            return default[0]
        value = self[key]
        del self[key]
        return value

    # In terms of the above, which dict's own methods pass by.
    clear = MutableMapping.clear
    popitem = MutableMapping.popitem
    setdefault = MutableMapping.setdefault
    update = MutableMapping.update

    def __reduce__(self) -> tuple[type, tuple[dict[str, Any]]]:
        """Copies and pickles are plain dictionaries, that no worker hangs on."""
        return dict, (dict(self),)

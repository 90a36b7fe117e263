"""Exchanges: which of its bindings a message follows, by the type of the exchange."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from nameko.amqp.memory._errors import Refused
from nameko.amqp.memory._messages import Message

# Routing keys that come once (a reply's, say) must not fill the memory.
_CACHED_ROUTES = 1024


@dataclass(frozen=True, eq=False)
class Binding:
    """A way out of an exchange.

    :param destination: a queue, or another exchange
    """

    source: Exchange
    destination: Any
    routing_key: str
    arguments: Mapping[str, Any]

    @property
    def key(self) -> tuple[int, str, str]:
        """What makes two bindings of one exchange the same."""
        return id(self.destination), self.routing_key, repr(sorted(self.arguments.items()))


class Routes(Protocol):
    """The bindings of an exchange, arranged for look-up."""

    def update(self, bindings: Iterable[Binding]) -> None:
        """Use these bindings from now on."""

    def follow(self, message: Message) -> tuple[Any, ...]:
        """The distinct destinations that `message` goes to."""


class KeyRoutes:
    """Routes that depend on the routing key alone, remembered for each key.

    :param matcher: of a binding's key: a test of routing keys, or None when the keys just have to be equal
    """

    def __init__(self, matcher: Callable[[str], Callable[[str], bool] | None]) -> None:
        self._matcher = matcher
        self._equal: dict[str, list[Any]] = {}
        self._tested: list[tuple[Callable[[str], bool], Any]] = []
        self._known: dict[str, tuple[Any, ...]] = {}

    def update(self, bindings: Iterable[Binding]) -> None:
        """Use these bindings from now on."""
        self._equal, self._tested, self._known = {}, [], {}
        for binding in bindings:
            test = self._matcher(binding.routing_key)
            if test is None:
                self._equal.setdefault(binding.routing_key, []).append(binding.destination)
            else:
                self._tested.append((test, binding.destination))

    def follow(self, message: Message) -> tuple[Any, ...]:
        """The distinct destinations that `message` goes to."""
        routing_key = message.routing_key
        try:
            return self._known[routing_key]
        except KeyError:
            pass
        if len(self._known) >= _CACHED_ROUTES:
            self._known.clear()
        found = self._known[routing_key] = tuple(dict.fromkeys(self._find(routing_key)))
        return found

    def _find(self, routing_key: str) -> Iterator[Any]:
        yield from self._equal.get(routing_key, ())
        for test, destination in self._tested:
            if test(routing_key):
                yield destination


class HeaderRoutes:
    """Routes that depend on the message's headers."""

    def __init__(self) -> None:
        self._bindings: tuple[Binding, ...] = ()

    def update(self, bindings: Iterable[Binding]) -> None:
        """Use these bindings from now on."""
        self._bindings = tuple(bindings)

    def follow(self, message: Message) -> tuple[Any, ...]:
        """The distinct destinations that `message` goes to."""
        headers = message.properties.get("application_headers") or {}
        matching = (binding.destination for binding in self._bindings if headers_match(binding.arguments, headers))
        return tuple(dict.fromkeys(matching))


def headers_match(arguments: Mapping[str, Any], headers: Mapping[str, Any]) -> bool:
    """Whether `headers` satisfy a headers binding; a void argument asks for the header with any value."""
    mode = arguments.get("x-match", "all")
    with_x = mode.endswith("-with-x")
    wanted = [
        (name, value)
        for name, value in arguments.items()
        if name != "x-match" and (with_x or not name.startswith("x-"))
    ]
    matches = (name in headers and (value is None or headers[name] == value) for name, value in wanted)
    return any(matches) if mode.startswith("any") else all(matches)


def topic_matcher(pattern: str) -> Callable[[str], bool] | None:
    """A test for the topic `pattern`: `*` stands for one word, `#` for any number of them; None when it has neither."""
    words = _words(pattern)
    if "*" not in words and "#" not in words:
        return None
    if words == ["#"]:
        return lambda routing_key: True
    return lambda routing_key: _topic_matches(words, _words(routing_key))


def _words(routing_key: str) -> list[str]:
    return routing_key.split(".") if routing_key else []


def _topic_matches(pattern: list[str], words: list[str]) -> bool:
    # The positions in `pattern` that the words so far can lead to: linear in each, whatever number of `#` there is.
    reached = _skip_hashes(pattern, {0})
    for word in words:
        moved = set()
        for position in reached:
            if position < len(pattern):
                if pattern[position] == "#":
                    moved.add(position)
                elif pattern[position] in ("*", word):
                    moved.add(position + 1)
        reached = _skip_hashes(pattern, moved)
    return len(pattern) in reached


def _skip_hashes(pattern: list[str], positions: set[int]) -> set[int]:
    reached = set(positions)
    for position in sorted(positions):
        while position < len(pattern) and pattern[position] == "#":
            position += 1
            reached.add(position)
    return reached


_ROUTES: dict[str, Callable[[], Routes]] = {
    "direct": lambda: KeyRoutes(lambda key: None),
    "topic": lambda: KeyRoutes(topic_matcher),
    "fanout": lambda: KeyRoutes(lambda key: lambda routing_key: True),
    "headers": HeaderRoutes,
}

_HEADER_MODES = ("all", "any", "all-with-x", "any-with-x")


class Exchange:
    """An exchange and its bindings.

    :raises Refused: 503 when RabbitMQ has no such type of exchange
    """

    def __init__(
        self, name: str, exchange_type: str, durable: bool, auto_delete: bool, arguments: Mapping[str, Any]
    ) -> None:
        if exchange_type not in _ROUTES:
            raise Refused(503, f"unknown exchange type '{exchange_type}'")
        self.name = name
        self.type = exchange_type
        self.durable = durable
        self.auto_delete = auto_delete
        self.arguments = dict(arguments)
        self.alternate: str | None = self.arguments.get("alternate-exchange")
        #: Whether a message may go on from here to another exchange.
        self.leads_on = self.alternate is not None
        self._bindings: dict[tuple[int, str, str], Binding] = {}
        self._routes = _ROUTES[exchange_type]()
        self.follow = self._routes.follow

    @property
    def bindings(self) -> tuple[Binding, ...]:
        """All ways out."""
        return tuple(self._bindings.values())

    def bind(self, destination: Any, routing_key: str, arguments: Mapping[str, Any]) -> None:
        """Add a way out; one that is there already is not added again.

        :raises Refused: 406 for a headers binding that cannot be understood
        """
        mode = arguments.get("x-match", "all")
        if self.type == "headers" and mode not in _HEADER_MODES:
            raise Refused(
                406, f'Invalid x-match field value <<"{mode}">>; expected all, any, all-with-x, or any-with-x'
            )
        binding = Binding(self, destination, routing_key, dict(arguments))
        self._bindings.setdefault(binding.key, binding)
        self._rearrange()

    def unbind(self, destination: Any, routing_key: str, arguments: Mapping[str, Any]) -> None:
        """Remove a way out; one that is not there is ignored."""
        self._bindings.pop(Binding(self, destination, routing_key, arguments).key, None)
        self._rearrange()

    def unbind_all(self, destination: Any) -> bool:
        """Remove all ways to `destination`; whether there were any."""
        remaining = {key: binding for key, binding in self._bindings.items() if binding.destination is not destination}
        if len(remaining) == len(self._bindings):
            return False
        self._bindings = remaining
        self._rearrange()
        return True

    def _rearrange(self) -> None:
        self._routes.update(self._bindings.values())
        self.leads_on = self.alternate is not None or any(
            isinstance(binding.destination, Exchange) for binding in self._bindings.values()
        )

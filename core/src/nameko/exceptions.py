"""Every exception of the framework, and how an exception travels over the wire.

::

    Exception
    ├── ConfigurationError            the configuration, or a declaration on a service, cannot work
    ├── CommandError                  a command line that cannot be carried out
    ├── PluginError                   a plugin cannot be loaded or breaks the rules
    ├── TemporaryFailure              something outside is not there right now; exit status 75
    ├── ContainerBeingKilled          no new worker: the container is going down
    ├── RemoteError                   the callee raised something that the caller does not know as a class
    ├── UnknownService                nobody listens for that service
    ├── UnserializableValueError      the result cannot be put on the wire
    ├── RpcTimeout                    no reply within the deadline
    ├── ReplyQueueExpiredWithPendingReplies
    │   └── ReplyLost                 the reply queue vanished while the call was pending
    └── BadRequest                    the caller's fault; HTTP answers 400
        ├── MalformedRequest          (these three are deserialized to themselves at the caller)
        ├── MethodNotFound
        ├── IncorrectSignature
        └── ConnectionNotFound        an unknown websocket
    AttributeError
    └── ExtensionNotFound             a test names an extension that the service does not have
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

ExceptionClass = TypeVar("ExceptionClass", bound=type[BaseException])

#: Exception classes that are rebuilt as themselves on the calling side, by their full path. Nothing else ever is:
#: what arrives over the wire never causes an import.
registry: dict[str, Callable[..., BaseException]] = {}


def get_module_path(cls: type) -> str:
    """The full path of a class, as it goes over the wire: `"module.Class"`."""
    return f"{cls.__module__}.{cls.__name__}"


def deserialize_to_instance(cls: ExceptionClass) -> ExceptionClass:
    """Class decorator: an exception of this class that a remote service raises is raised as itself at the caller.

    The class has to accept its `args` back as positional arguments, all of them as strings; an exception that cannot
    be rebuilt arrives as a `RemoteError`.
    """
    registry[get_module_path(cls)] = cls
    return cls


class ExtensionNotFound(AttributeError):
    """A test names an extension that the service does not have."""


class ConfigurationError(Exception):
    """The configuration, or a declaration on a service, cannot work."""


class CommandError(Exception):
    """A command line that cannot be carried out."""


class PluginError(Exception):
    """A plugin cannot be loaded, or breaks the rules of the hooks."""


class TemporaryFailure(Exception):
    """Something outside the process is not there right now; starting again later can help.

    An extension raises a subclass out of `setup` or `start` when, say, its broker cannot be reached within the time
    allowed. `nameko run` then prints the message as one line and exits with status 75 (EX_TEMPFAIL of sysexits.h),
    which tells a supervisor to try again. The message names what could not be reached, without its password, and the
    cause.
    """


class ContainerBeingKilled(Exception):
    """Raised by `spawn_worker` when the container is going down: give the work back to where it came from."""


class RpcTimeout(Exception):
    """No reply came within the deadline of the call."""


class ReplyQueueExpiredWithPendingReplies(Exception):
    """The reply queue vanished while calls were pending; their replies, if any, are lost."""


class ReplyLost(ReplyQueueExpiredWithPendingReplies):
    """The reply to this call can no longer arrive. Whether the method has run is not known."""


class RemoteError(Exception):
    """The callee raised an exception that is not registered at the caller.

    :param exc_type: the name of the remote exception's class
    :param value: its message
    """

    def __init__(self, exc_type: str | None = None, value: str = "") -> None:
        self.exc_type = exc_type
        self.value = value
        super().__init__(f"{exc_type} {value}")

    def __reduce__(self) -> tuple[type[RemoteError], tuple[str | None, str]]:
        return type(self), (self.exc_type, self.value)


class BadRequest(Exception):
    """The request cannot be served as it stands; the caller is at fault."""


@deserialize_to_instance
class MalformedRequest(BadRequest):
    """The message does not have the form of a request."""


@deserialize_to_instance
class MethodNotFound(BadRequest):
    """The service has no such entrypoint."""


@deserialize_to_instance
class IncorrectSignature(BadRequest):
    """The method does not accept the arguments of the request."""


class ConnectionNotFound(BadRequest):
    """The websocket is not, or no longer, connected."""


class UnknownService(Exception):
    """No service of that name is listening.

    :param service_name: the name that was called
    """

    def __init__(self, service_name: str) -> None:
        self._service_name = service_name
        super().__init__(service_name)

    def __str__(self) -> str:
        return f"Unknown service `{self._service_name}`"


class UnserializableValueError(Exception):
    """The result of a method cannot be put on the wire.

    :param value: the result; only its `repr` is kept
    """

    def __init__(self, value: object) -> None:
        try:
            self.repr_value = repr(value)
        except Exception:
            self.repr_value = "[__repr__ failed]"
        super().__init__()

    def __str__(self) -> str:
        return f"Unserializable value: `{self.repr_value}`"


def safe_for_serialization(value: Any) -> Any:
    """`value` in terms that every serializer knows: strings, lists and dicts of strings.

    Mappings are converted key by key, other iterables (bytes too) become lists, everything else its `str`, and so does
    what contains itself. `"..."` stands for what is nested very deeply and for the rest of very many items.
    """
    return _SafeCopy().of(value)


class _SafeCopy:
    # The wire's own rule has no limits, but an exception whose argument contains itself, or never ends, must reach the
    # caller nevertheless.
    MAX_DEPTH = 50
    MAX_ITEMS = 10_000

    def __init__(self) -> None:
        self._inside: list[int] = []  # the ids of the containers around the value at hand
        self._items_left = self.MAX_ITEMS

    def of(self, value: Any) -> Any:
        if isinstance(value, str):
            return value
        if not isinstance(value, Iterable) or id(value) in self._inside:
            return _safe_str(value)
        if len(self._inside) == self.MAX_DEPTH:
            return "..."
        self._inside.append(id(value))
        try:
            if isinstance(value, Mapping):
                return {self._key(key): self.of(item) for key, item in self._counted(value.items())}
            items = [self.of(item) for item in self._counted(value)]
            return items if self._items_left else [*items, "..."]
        except Exception:  # of the iteration
            return _safe_str(value)
        finally:
            self._inside.pop()

    def _key(self, key: Any) -> str:
        return key if isinstance(key, str) else _safe_str(key)

    def _counted(self, items: Iterable[Any]) -> Iterator[Any]:
        for item in items:
            if not self._items_left:
                return
            self._items_left -= 1
            yield item


def _safe_str(value: Any) -> str:
    try:
        return str(value)
    except Exception:
        return "[__unicode__ failed]"


def serialize(exc: BaseException) -> dict[str, Any]:
    """The wire form of an exception: `exc_type`, `exc_path`, `exc_args` and `value`, all in plain strings and lists."""
    return {
        "exc_type": type(exc).__name__,
        "exc_path": get_module_path(type(exc)),
        "exc_args": [safe_for_serialization(arg) for arg in exc.args],
        "value": _safe_str(exc),
    }


def deserialize(data: Any) -> BaseException:
    """The exception for its wire form `data`.

    A class of the registry is rebuilt from its arguments; all else, malformed data and classes that refuse their
    arguments included, becomes a `RemoteError` that carries what there is. Tolerates the forms of nameko before 1.5.
    """
    if not isinstance(data, Mapping):
        return RemoteError("Unknown", _safe_str(data))
    cls = registry.get(data.get("exc_path")) if isinstance(data.get("exc_path"), str) else None  # type: ignore[arg-type]
    args = data.get("exc_args", ())
    if cls is not None and isinstance(args, (list, tuple)):
        try:
            return cls(*args)
        except Exception:  # the class cannot be rebuilt from strings: keep what it said
            pass
    return RemoteError(data.get("exc_type"), data.get("value", ""))

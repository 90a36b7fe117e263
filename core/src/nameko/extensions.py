"""Extensions: what a service class declares, and how each declaration is bound to a container.

A service class carries *unbound* extensions: dependency providers as class attributes, entrypoints on its methods. They
are declarations only. A container clones each of them when it is built (`bind`), so that one service class can run in
any number of containers, with any configuration, without sharing state.

The life of a bound extension is `setup()`, `start()`, `stop()`, or `kill()` at any time; the container calls them.
"""

from __future__ import annotations

import inspect
import types
import warnings
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

from nameko.concurrency import Event
from nameko.exceptions import ConfigurationError, IncorrectSignature
from nameko.suggestions import did_you_mean
from nameko.utils._redaction import warn_of_unmatched

if TYPE_CHECKING:
    from typing_extensions import Self  # in `typing` from Python 3.11 on

    from nameko.containers import ServiceContainer, WorkerContext

F = TypeVar("F", bound=Callable[..., Any])

#: A method's entrypoints stand in this attribute of the function, as a set.
ENTRYPOINT_EXTENSIONS_ATTR = "nameko_entrypoints"

#: (type, value, traceback) of an exception, as `sys.exc_info` gives it.
ExcInfo = tuple[type[BaseException], BaseException, types.TracebackType | None]


class Extension:
    """Something that a container sets up, starts and stops.

    The constructor's arguments are recorded, and binding calls the class again with them: `__init__` runs once for
    the declaration and once for each container, must not have side effects and need not call `super().__init__`.
    An extension that stands in an attribute of another one is its sub-extension, and is bound with it.
    """

    __declaration: tuple[tuple[Any, ...], dict[str, Any]]
    #: The container, once bound. A weak proxy: an extension does not keep its container alive.
    container: ServiceContainer = None  # type: ignore[assignment]

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Record the arguments for `bind`."""
        self = super().__new__(cls)
        self.__declaration = (args, kwargs)
        return self

    def setup(self) -> None:
        """Called before the container starts: allocate, declare, connect. No work may be accepted yet."""

    def start(self) -> None:
        """Called when every extension of the container is set up: work may begin."""

    def stop(self) -> None:
        """Called on orderly shutdown: finish and release. May be called when `start` was not, and more than once."""

    def kill(self) -> None:
        """Called when the container is killed: give up at once, without waiting and without raising."""

    def bind(self, container: ServiceContainer) -> Self:
        """A clone of this declaration, and of its sub-extensions, that belongs to `container`.

        :raises RuntimeError: when this is itself a bound extension
        """
        if self.is_bound():
            raise RuntimeError("Cannot `bind` a bound extension.")
        args, kwargs = self.__declaration
        bound = type(self)(*args, **kwargs)
        # This looks at every property, and so before it is bound: one that needs the container, or the method's name,
        # does not answer yet, or asks `is_bound()`.
        sub_extensions = inspect.getmembers(bound, is_extension)
        bound.container = container if isinstance(container, weakref.ProxyTypes) else weakref.proxy(container)
        for name, sub_extension in sub_extensions:
            setattr(bound, name, sub_extension.bind(container))
        return bound

    def is_bound(self) -> bool:
        """Whether this belongs to a container."""
        return self.container is not None

    def describe(self) -> Mapping[str, str]:
        """What `nameko services` shows of a bound extension that was not set up: name and value of each detail.

        Any names will do. These have a meaning: `queue`, `exchange` and `routing_key` of messages; `calls`, the name of
        a service that is called; `listens_to`, that of one whose messages come in, and `event`, their type; `method`
        and `url` of HTTP requests; `interval_s`.
        """
        return {}

    def __repr__(self) -> str:
        return f"<{type(self).__name__} at 0x{id(self):x}>"


class SharedExtension(Extension):
    """An extension of which a container has one, however many of its other extensions hold it."""

    @property
    def sharing_key(self) -> Any:
        """What tells two of them apart: declarations with equal keys are bound to one object. The class, by default."""
        return type(self)

    def bind(self, container: ServiceContainer) -> Self:
        """The container's one instance for this `sharing_key`; the first call makes it."""
        key = self.sharing_key
        shared = container.shared_extensions.get(key)
        if shared is None:
            shared = container.shared_extensions[key] = super().bind(container)
        return cast("Self", shared)


class DependencyProvider(Extension):
    """Injects something into each worker's service instance, under the attribute that it was declared as."""

    attr_name: str | None = None

    def bind(self, container: ServiceContainer, attr_name: str) -> Self:  # type: ignore[override]
        """A clone that belongs to `container` and injects as `attr_name`."""
        bound = super().bind(container)
        bound.attr_name = attr_name
        self.attr_name = attr_name
        return bound

    def get_dependency(self, worker_ctx: WorkerContext) -> Any:
        """Called before each worker: the object to inject. Runs in the worker's greenthread, like the rest."""

    def worker_setup(self, worker_ctx: WorkerContext) -> None:
        """Called after all dependencies are injected and before the method runs."""

    def worker_result(self, worker_ctx: WorkerContext, result: Any = None, exc_info: ExcInfo | None = None) -> None:
        """Called with the outcome of the method, after the entrypoint has dealt with it."""

    def worker_teardown(self, worker_ctx: WorkerContext) -> None:
        """Called last."""

    def __repr__(self) -> str:
        return _repr(self, self.attr_name)


class Entrypoint(Extension):
    """Something that makes a service method run.

    :param expected_exceptions: an exception class or a tuple of them that the caller is to blame for: logged as a
        warning, without a traceback
    :param sensitive_arguments: arguments, as `"name"`, `"name.key"` or `"name.key[0]"`, that logs must not show
    """

    method_name: str | None = None
    expected_exceptions: type[BaseException] | tuple[type[BaseException], ...] = ()
    sensitive_arguments: str | Sequence[str] = ()
    _signature: _Signature | None = None

    def __init__(
        self,
        expected_exceptions: type[BaseException] | Sequence[type[BaseException]] = (),
        sensitive_arguments: str | Sequence[str] = (),
        **kwargs: Any,
    ) -> None:
        old_name = kwargs.pop("sensitive_variables", None)
        if old_name is not None:
            warnings.warn(
                "`sensitive_variables` is called `sensitive_arguments` now.", DeprecationWarning, stacklevel=2
            )
            sensitive_arguments = old_name
        self.expected_exceptions = _exception_classes(expected_exceptions, type(self).__name__)
        self.sensitive_arguments = sensitive_arguments
        try:
            super().__init__(**kwargs)
        except TypeError as exc:
            if not kwargs:
                raise
            raise TypeError(_unknown_arguments(type(self), kwargs)) from exc

    def bind(self, container: ServiceContainer, method_name: str) -> Self:  # type: ignore[override]
        """A clone that belongs to `container` and runs its service's method `method_name`."""
        bound = super().bind(container)
        bound.method_name = method_name
        warn_of_unmatched(bound)
        return bound

    def check_signature(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Check that the method accepts these arguments.

        :raises IncorrectSignature: when it does not
        """
        if self._signature is None:
            self._signature = _Signature(getattr(self.container.service_cls, self.method_name))  # type: ignore[arg-type]
        self._signature.check(args, kwargs)

    @classmethod
    def decorator(cls, *args: Any, **kwargs: Any) -> Any:
        """Decorates a service method with this entrypoint, with arguments or without: `@rpc` or `@rpc(...)`.

        The function itself is returned as it was, so the service class can be tested as a plain class, and a method
        may carry several entrypoints.
        """
        if len(args) == 1 and not kwargs and isinstance(args[0], types.FunctionType):
            return register_entrypoint(args[0], cls())
        return partial(_decorate, cls, args, kwargs)

    def __repr__(self) -> str:
        return _repr(self, self.method_name)


def _repr(extension: Extension, name: str | None) -> str:
    where = "unbound"
    if extension.is_bound() and name is not None:
        try:
            where = f"{extension.container.service_name}.{name}"
        except ReferenceError:  # the container is gone; this may be for the log line that tells so
            where = name
    return f"<{type(extension).__name__} [{where}] at 0x{id(extension):x}>"


def _unknown_arguments(cls: type, kwargs: Mapping[str, Any]) -> str:
    constructors = [vars(base)["__init__"] for base in cls.__mro__ if "__init__" in vars(base)]
    known = {name for constructor in constructors for name in inspect.signature(constructor).parameters}
    return f"{cls.__name__} does not take {', '.join(f'{name}{did_you_mean(name, known)}' for name in kwargs)}"


def _exception_classes(
    declared: type[BaseException] | Sequence[type[BaseException]], declared_on: str
) -> type[BaseException] | tuple[type[BaseException], ...]:
    classes = (declared,) if isinstance(declared, (type, str)) else tuple(declared)
    for cls in classes:
        if not (isinstance(cls, type) and issubclass(cls, BaseException)):
            raise ConfigurationError(f"{declared_on}: expected_exceptions takes exception classes, not {cls!r}.")
    return declared if isinstance(declared, type) else classes


class _Signature:
    """What arguments a method takes; decides the plain cases without `inspect`, which would take microseconds.

    :param method: the function, which takes `self` first
    """

    def __init__(self, method: Callable[..., Any]) -> None:
        # That of a decorator's wrapper itself: it may inject arguments that nobody is to pass.
        self._signature = inspect.signature(method, follow_wrapped=False)
        parameters = list(self._signature.parameters.values())[1:]
        least = sum(each.default is each.empty for each in parameters)
        plain = all(each.kind is each.POSITIONAL_OR_KEYWORD for each in parameters)
        #: How many positional arguments, and no others, are known to fit; none when their number does not tell.
        self._counts = range(least, len(parameters) + 1) if plain else range(0)

    def check(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Raise IncorrectSignature when the method cannot be called with these arguments."""
        if not kwargs and len(args) in self._counts:
            return
        try:
            self._signature.bind(None, *args, **kwargs)  # None stands for `self`
        except TypeError as exc:
            raise IncorrectSignature(str(exc)) from None


def _decorate(cls: type[Entrypoint], args: tuple[Any, ...], kwargs: dict[str, Any], fn: F) -> F:
    return register_entrypoint(fn, cls(*args, **kwargs))


def register_entrypoint(fn: F, entrypoint: Entrypoint) -> F:
    """Declare `entrypoint` on the function `fn`, which is returned."""
    entrypoints = getattr(fn, ENTRYPOINT_EXTENSIONS_ATTR, None)
    if entrypoints is None:
        entrypoints = set()
        setattr(fn, ENTRYPOINT_EXTENSIONS_ATTR, entrypoints)
    entrypoints.add(entrypoint)
    return fn


class ProviderCollector:
    """Mix-in for an extension that serves several others, which register with it.

    `stop()` returns when the last of them has unregistered; at once when none ever registered.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._providers: set[Any] = set()
        self._last_unregistered = Event()
        super().__init__(*args, **kwargs)

    def register_provider(self, provider: Any) -> None:
        """Add `provider`."""
        self._providers.add(provider)

    def unregister_provider(self, provider: Any) -> None:
        """Remove `provider`; one that is not registered is ignored."""
        if provider not in self._providers:
            return
        self._providers.remove(provider)
        if not self._providers:
            self._last_unregistered.send(None)
            self._last_unregistered = Event()

    def wait_for_providers(self) -> None:
        """Wait until every provider has unregistered."""
        while self._providers:
            self._last_unregistered.wait()

    def stop(self) -> None:
        """Wait for the providers."""
        self.wait_for_providers()


def is_extension(obj: object) -> bool:
    """Whether `obj` is an extension."""
    return isinstance(obj, Extension)


def is_dependency(obj: object) -> bool:
    """Whether `obj` is a dependency provider."""
    return isinstance(obj, DependencyProvider)


def is_entrypoint(obj: object) -> bool:
    """Whether `obj` is an entrypoint."""
    return isinstance(obj, Entrypoint)


def iter_extensions(extension: Extension) -> Iterator[Extension]:
    """The sub-extensions of a bound extension, depth first, each before the one that holds it."""
    for _, sub_extension in inspect.getmembers(extension, is_extension):
        yield from iter_extensions(sub_extension)
        yield sub_extension

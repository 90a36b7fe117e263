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
from typing import TYPE_CHECKING, Any, TypeVar

from nameko.concurrency import Event
from nameko.exceptions import IncorrectSignature

if TYPE_CHECKING:
    from nameko.containers import ServiceContainer, WorkerContext

ExtensionT = TypeVar("ExtensionT", bound="Extension")
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

    _declared: tuple[tuple[Any, ...], dict[str, Any]]
    #: The container, once bound. A weak proxy: an extension does not keep its container alive.
    container: ServiceContainer = None  # type: ignore[assignment]

    def __new__(cls: type[ExtensionT], *args: Any, **kwargs: Any) -> ExtensionT:
        """Record the arguments for `bind`."""
        self = super().__new__(cls)
        self._declared = (args, kwargs)
        return self

    def setup(self) -> None:
        """Called before the container starts: allocate, declare, connect. No work may be accepted yet."""

    def start(self) -> None:
        """Called when every extension of the container is set up: work may begin."""

    def stop(self) -> None:
        """Called on orderly shutdown: finish and release. May be called when `start` was not, and more than once."""

    def kill(self) -> None:
        """Called when the container is killed: give up at once, without waiting and without raising."""

    def bind(self: ExtensionT, container: ServiceContainer) -> ExtensionT:
        """A clone of this declaration, and of its sub-extensions, that belongs to `container`.

        :raises RuntimeError: when this is itself a bound extension
        """
        if self.is_bound():
            raise RuntimeError("Cannot `bind` a bound extension.")
        args, kwargs = self._declared
        bound = type(self)(*args, **kwargs)
        bound.container = weakref.proxy(container)
        for name, sub_extension in inspect.getmembers(bound, is_extension):
            setattr(bound, name, sub_extension.bind(container))
        return bound

    def is_bound(self) -> bool:
        """Whether this belongs to a container."""
        return self.container is not None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} at 0x{id(self):x}>"


class SharedExtension(Extension):
    """An extension of which a container has one, however many of its other extensions hold it."""

    @property
    def sharing_key(self) -> Any:
        """What tells two of them apart: declarations with equal keys are bound to one object. The class, by default."""
        return type(self)

    def bind(self: ExtensionT, container: ServiceContainer) -> ExtensionT:
        """The container's one instance for this `sharing_key`; the first call makes it."""
        key = self.sharing_key  # type: ignore[attr-defined]
        shared = container.shared_extensions.get(key)
        if shared is None:
            shared = super().bind(container)  # type: ignore[misc]
            container.shared_extensions[key] = shared
        return shared  # type: ignore[no-any-return]


class DependencyProvider(Extension):
    """Injects something into each worker's service instance, under the attribute that it was declared as."""

    attr_name: str | None = None

    def bind(  # type: ignore[override]
        self: ExtensionT, container: ServiceContainer, attr_name: str
    ) -> ExtensionT:
        """A clone that belongs to `container` and injects as `attr_name`."""
        bound = super().bind(container)  # type: ignore[misc]
        bound.attr_name = attr_name
        self.attr_name = attr_name  # type: ignore[attr-defined]
        return bound  # type: ignore[no-any-return]

    def get_dependency(self, worker_ctx: WorkerContext) -> Any:
        """Called before each worker: the object to inject. Runs in the worker's greenthread, like the rest."""

    def worker_setup(self, worker_ctx: WorkerContext) -> None:
        """Called after all dependencies are injected and before the method runs."""

    def worker_result(
        self, worker_ctx: WorkerContext, result: Any = None, exc_info: ExcInfo | None = None
    ) -> None:
        """Called with the outcome of the method, after the entrypoint has dealt with it."""

    def worker_teardown(self, worker_ctx: WorkerContext) -> None:
        """Called last."""

    def __repr__(self) -> str:
        if self.attr_name is None or not self.is_bound():
            return f"<{type(self).__name__} [unbound] at 0x{id(self):x}>"
        return f"<{type(self).__name__} [{self.container.service_name}.{self.attr_name}] at 0x{id(self):x}>"


class Entrypoint(Extension):
    """Something that makes a service method run.

    :param expected_exceptions: an exception class or a tuple of them that the caller is to blame for: logged as a
        warning, without a traceback
    :param sensitive_arguments: arguments, as `"name"`, `"name.key"` or `"name.key[0]"`, that logs must not show
    """

    method_name: str | None = None
    _signature: inspect.Signature | None = None

    def __init__(
        self,
        expected_exceptions: type[BaseException] | tuple[type[BaseException], ...] = (),
        sensitive_arguments: str | Sequence[str] = (),
        **kwargs: Any,
    ) -> None:
        old_name = kwargs.pop("sensitive_variables", None)
        if old_name is not None:
            warnings.warn(
                "`sensitive_variables` is called `sensitive_arguments` now.", DeprecationWarning, stacklevel=2
            )
            sensitive_arguments = old_name
        self.expected_exceptions = expected_exceptions
        self.sensitive_arguments = sensitive_arguments
        super().__init__(**kwargs)

    def bind(  # type: ignore[override]
        self: ExtensionT, container: ServiceContainer, method_name: str
    ) -> ExtensionT:
        """A clone that belongs to `container` and runs its service's method `method_name`."""
        bound = super().bind(container)  # type: ignore[misc]
        bound.method_name = method_name
        return bound  # type: ignore[no-any-return]

    def check_signature(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Check that the method accepts these arguments.

        :raises IncorrectSignature: when it does not
        """
        signature = self._signature
        if signature is None:
            method = getattr(self.container.service_cls, self.method_name)  # type: ignore[arg-type]
            signature = self._signature = inspect.signature(method)
        try:
            signature.bind(None, *args, **kwargs)  # None stands for `self`
        except TypeError as exc:
            raise IncorrectSignature(str(exc)) from None

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
        if self.method_name is None or not self.is_bound():
            return f"<{type(self).__name__} [unbound] at 0x{id(self):x}>"
        return f"<{type(self).__name__} [{self.container.service_name}.{self.method_name}] at 0x{id(self):x}>"


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
        self._any_registered = False
        self._last_unregistered = Event()
        super().__init__(*args, **kwargs)

    def register_provider(self, provider: Any) -> None:
        """Add `provider`."""
        self._any_registered = True
        self._providers.add(provider)

    def unregister_provider(self, provider: Any) -> None:
        """Remove `provider`; one that is not registered is ignored."""
        if provider not in self._providers:
            return
        self._providers.remove(provider)
        if not self._providers and not self._last_unregistered.ready():
            self._last_unregistered.send(None)

    def wait_for_providers(self) -> None:
        """Wait until every provider has unregistered."""
        if self._any_registered:
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

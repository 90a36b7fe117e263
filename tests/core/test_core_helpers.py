"""utils, retry, log_helpers, contextdata, dependency_providers."""

from __future__ import annotations

import inspect
import logging
import time
from types import MappingProxyType
from typing import Any

import pytest

from nameko.concurrency import sleep
from nameko.contextdata import AuthToken, ContextDataProvider, Language, UserAgent, UserId
from nameko.dependency_providers import Config
from nameko.extensions import Entrypoint
from nameko.log_helpers import make_timing_logger
from nameko.retry import retry
from nameko.testing.services import dummy, entrypoint_hook
from nameko.utils import REDACTED, get_redacted_args, import_from_path, sanitize_url

# -- import_from_path


def test_import_from_path():
    assert import_from_path(None) is None
    assert import_from_path("nameko.utils.REDACTED") is REDACTED


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("nameko.utils.Missing", "module `nameko.utils` has no `Missing`"),
        ("nameko.missing.Missing", "nameko.missing"),
        ("plain", "`plain` is not the path of an object in a module"),
        ("", "not the path"),
    ],
)
def test_import_from_a_wrong_path(path, message):
    with pytest.raises(ImportError, match=message):
        import_from_path(path)


# -- redaction


@pytest.mark.parametrize(
    ("url", "sanitized"),
    [
        ("amqp://user:secret@host:5672/vhost", f"amqp://user:{REDACTED}@host:5672/vhost"),
        ("amqp://user:se/cr#et@host/vhost", f"amqp://user:{REDACTED}@host/vhost"),
        ("amqp://user:1/2@host", f"amqp://user:{REDACTED}@host"),
        ("amqp://user:p@ss@host", f"amqp://user:{REDACTED}@host"),
        ("amqp://:secret@host", f"amqp://:{REDACTED}@host"),
        ("amqp://user:a://b@host", f"amqp://user:{REDACTED}@host"),
        ("http://user:secret@host/path@home", f"http://user:{REDACTED}@home"),
        ("amqp://user@host", "amqp://user@host"),
        ("amqp://user:@host", "amqp://user:@host"),
        ("memory://localhost/x", "memory://localhost/x"),
        ("http://host:80/path@home", "http://host:80/path@home"),
        ("", ""),
    ],
)
def test_sanitize_url(url, sanitized):
    assert sanitize_url(url) == sanitized


def make_entrypoint(container_factory: Any, sensitive: Any) -> Entrypoint:
    class Service:
        name = "service"

        @dummy(sensitive_arguments=sensitive)
        def method(self, a: Any, b: Any = "default", *args: Any, **kwargs: Any) -> None:
            pass

    (entrypoint,) = container_factory(Service, {}).entrypoints
    return entrypoint


NESTED = {"key": [1, {"deep": "secret"}], "other": (1, 2), "text": "abc"}


@pytest.mark.parametrize(
    ("sensitive", "expected"),
    [
        ((), {"a": NESTED, "b": "default"}),
        ("a", {"a": REDACTED, "b": "default"}),
        ("b", {"a": NESTED, "b": REDACTED}),
        (("a", "b"), {"a": REDACTED, "b": REDACTED}),
        (["a", "unknown"], {"a": REDACTED, "b": "default"}),
        ("a.text", {"a": {**NESTED, "text": REDACTED}, "b": "default"}),
        ("a.key", {"a": {**NESTED, "key": REDACTED}, "b": "default"}),
        ("a.key[0]", {"a": {**NESTED, "key": [REDACTED, {"deep": "secret"}]}, "b": "default"}),
        ("a.key[1].deep", {"a": {**NESTED, "key": [1, {"deep": REDACTED}]}, "b": "default"}),
        ("a.other[1]", {"a": {**NESTED, "other": (1, REDACTED)}, "b": "default"}),
        (("a.key[5]", "a.missing", "a.text[0]", "a.text.x", "a[0]", "b.x", ""), {"a": NESTED, "b": "default"}),
    ],
)
def test_sensitive_arguments_are_redacted(container_factory, sensitive, expected):
    entrypoint = make_entrypoint(container_factory, sensitive)
    assert get_redacted_args(entrypoint, NESTED) == {**expected, "args": (), "kwargs": {}}


def test_a_sensitive_argument_that_the_method_does_not_have_is_named_at_start(container_factory, caplog):
    make_entrypoint(container_factory, ("a.key[0]", "b", "kwargs.password", "args[0]"))
    assert caplog.messages == []
    make_entrypoint(container_factory, ("a", "pargs.x", "secret"))
    assert caplog.messages == [
        "service.method: 'pargs.x' in sensitive_arguments hides nothing, the method has no such argument"
        " (did you mean 'args'?)",
        "service.method: 'secret' in sensitive_arguments hides nothing, the method has no such argument",
    ]


def test_redaction_covers_all_kinds_of_parameters(container_factory):
    entrypoint = make_entrypoint(container_factory, ("args[0]", "kwargs.password", "b"))
    assert get_redacted_args(entrypoint, 1, "x", "y", "z", password="p", user="u") == {
        "a": 1,
        "b": REDACTED,
        "args": (REDACTED, "z"),
        "kwargs": {"password": REDACTED, "user": "u"},
    }


def test_redaction_leaves_the_arguments_alone(container_factory):
    entrypoint = make_entrypoint(container_factory, "a.key[0]")
    argument = {"key": ["secret", {"more": 1}]}
    redacted = get_redacted_args(entrypoint, argument)
    redacted["a"]["key"][1]["more"] = 2
    assert argument == {"key": ["secret", {"more": 1}]}


def test_redaction_of_a_read_only_mapping(container_factory):
    class Frozen(dict):  # a mapping that does not take assignments but can be copied
        __setitem__ = None  # type: ignore[assignment]

        def __deepcopy__(self, memo: Any) -> Any:
            return MappingProxyType(dict(self))

    entrypoint = make_entrypoint(container_factory, "a.key")
    assert get_redacted_args(entrypoint, Frozen(key="secret", x=1))["a"] == {"key": REDACTED, "x": 1}


def test_redaction_of_what_cannot_be_copied(container_factory):
    class Handle(dict):
        def __deepcopy__(self, memo: Any) -> Any:
            raise TypeError("cannot be copied")

    handle = Handle(key="secret")
    assert get_redacted_args(make_entrypoint(container_factory, "b"), handle)["a"] is handle
    assert get_redacted_args(make_entrypoint(container_factory, "a.key"), handle)["a"] == REDACTED
    assert handle == {"key": "secret"}


def test_redaction_of_a_wrong_call(container_factory):
    with pytest.raises(TypeError, match="'a'"):
        get_redacted_args(make_entrypoint(container_factory, "b"))


# -- retry


class Flaky:
    def __init__(self, failures: int, exc: type[Exception] = ValueError) -> None:
        self.failures, self.exc, self.calls = failures, exc, 0

    def method(self, value: int = 5) -> int:
        """Fails a few times."""
        self.calls += 1
        if self.calls <= self.failures:
            raise self.exc("flaky")
        return value


@pytest.fixture
def pauses(monkeypatch) -> list[float]:
    """The waits, which do not take place."""
    pauses: list[float] = []
    monkeypatch.setattr("nameko.retry.sleep", pauses.append)
    return pauses


def test_retry_calls_again_until_it_works(pauses):
    flaky = Flaky(3)
    assert retry(flaky.method)(7) == 7
    assert flaky.calls == 4
    assert pauses == [1, 1, 1]


def test_retry_gives_up_after_one_call_and_three_more(pauses):
    flaky = Flaky(4)
    with pytest.raises(ValueError, match="flaky"):
        retry(flaky.method)()
    assert flaky.calls == 4
    assert pauses == [1, 1, 1]


def test_retry_with_options(pauses):
    flaky = Flaky(5)
    call = retry(max_attempts=None, delay=0.1, backoff=2, max_delay=1)(flaky.method)
    assert call() == 5
    assert pauses == [0.2, 0.4, 0.8, 1, 1]
    with pytest.raises(ValueError, match="flaky"):
        retry(max_attempts=0)(Flaky(1).method)()


def test_retry_for_some_exceptions_only(pauses):
    flaky = Flaky(1, KeyError)
    with pytest.raises(KeyError):
        retry(for_exceptions=(ValueError, OSError))(flaky.method)()
    assert flaky.calls == 1
    assert retry(for_exceptions=KeyError)(Flaky(1, KeyError).method)() == 5


def test_retry_decorates_methods(pauses):
    class Service:
        calls = 0

        @retry
        def bare(self, a: int, b: int = 2) -> int:
            """Documented."""
            self.calls += 1
            if self.calls == 1:
                raise ValueError
            return a + b

        @retry(delay=0)
        def configured(self) -> Service:
            return self

    service = Service()
    assert service.bare(1) == 3
    assert service.configured() is service
    assert Service.bare.__doc__ == "Documented."
    assert list(inspect.signature(Service.bare).parameters) == ["self", "a", "b"]


def test_retry_really_waits():
    started_at = time.monotonic()
    retry(delay=0.02)(Flaky(2).method)()
    assert time.monotonic() - started_at >= 0.04


# -- log_helpers


def test_timing_is_logged(caplog):
    caplog.set_level(logging.DEBUG)
    logger = logging.getLogger("test")
    with make_timing_logger(logger)("loading %s", "x"):
        sleep(0.01)
    with pytest.raises(ValueError, match="no"), make_timing_logger(logger, precision=0, level=logging.INFO)("plain"):
        raise ValueError("no")
    first, second = caplog.records
    assert first.levelno == logging.DEBUG
    assert first.getMessage().startswith("loading x in 0.0")
    assert len(first.getMessage()) == len("loading x in 0.123s")
    assert (second.levelno, second.getMessage()) == (logging.INFO, "plain in 0s")


# -- dependencies of the core


class Tenant(ContextDataProvider):
    context_key = "tenant"


class Context:
    name = "context"

    config = Config()
    language = Language()
    user_id = UserId()
    user_agent = UserAgent()
    auth_token = AuthToken()
    tenant = Tenant()

    @dummy
    def all(self) -> tuple[Any, ...]:
        return self.language, self.user_id, self.user_agent, self.auth_token, self.tenant

    @dummy
    def change_config(self) -> Any:
        self.config["key"] = "changed"  # type: ignore[index]
        return type(self.config)


def test_context_data_is_injected(container_factory):
    container = container_factory(Context, {})
    container.start()
    data = {"language": "en", "user_id": 1, "user_agent": "curl", "auth_token": "t", "tenant": "acme"}
    with entrypoint_hook(container, "all", context_data=data) as call:
        assert call() == ("en", 1, "curl", "t", "acme")
    with entrypoint_hook(container, "all") as call:
        assert call() == (None,) * 5


def test_the_configuration_is_injected_as_a_copy(container_factory):
    config = {"key": "value"}
    container = container_factory(Context, config)
    container.start()
    with entrypoint_hook(container, "change_config") as call:
        assert call() is dict
    assert config == {"key": "value"}

"""`nameko amqp dead`: parked messages, looked at and moved with a connection of its own."""

from __future__ import annotations

import json
import sys
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import SplitResult, quote, unquote, urlsplit

import click

from amqp.exceptions import AMQPError, NotFound
from nameko.amqp._retry_wire import (
    DEAD_ATTEMPTS,
    DEAD_ERROR,
    DEAD_REASON,
    DEAD_RETURN_EXCHANGE,
    DEAD_RETURN_KEY,
    DEAD_SINCE,
    DEAD_SUFFIX,
    DEAD_TRACEBACK,
    Address,
    derived_name,
    origin_of,
    republished_properties,
    returned_headers,
    without_marks,
)
from nameko.amqp.blocking import BlockingClient, Deadline
from nameko.amqp.errors import CHECK_CREDENTIALS, UndeliverableMessage
from nameko.amqp.messages import Message
from nameko.amqp.serializers import Codecs
from nameko.amqp.settings import AmqpSettings, mask_uri
from nameko.amqp.tls import make_context
from nameko.exceptions import CommandError

# For each question to the broker.
_TIMEOUT_S = 30.0
_BODY_LENGTH = 2000


def list_queues(config: Mapping[str, Any], queues: Sequence[str], management: str | None) -> None:
    """Print each parking queue and the number of its messages.

    :param queues: which ones; none for those that the management API knows
    :raises CommandError: when the broker, or its management API, does not answer as it should
    """
    settings = _settings(config)
    names = list(map(_parking, queues)) if queues else _ask_management(settings, management)
    if not names:
        click.echo("There is no parking queue.")
        return
    with _client(settings) as client:
        # Also where the management API has told the names: its counts are some seconds old.
        counts = {name: _count(client, name) for name in names}
    width = max(map(len, counts))
    for name, count in sorted(counts.items()):
        click.echo(f"{name:{width}}  {count}")


def show(config: Mapping[str, Any], queue: str, limit: int, as_json: bool) -> None:
    """Print parked messages, the oldest first.

    :raises CommandError: when there is no such queue, or no broker
    """
    settings = _settings(config)
    with _client(settings) as client:
        messages = list(_take(client, _parking(queue), limit, Codecs.from_config(config, settings)))
        described = [_describe(message) for message in messages]
        # Not acknowledged: they return to their places when the connection is closed.
    for each in described:
        click.echo(json.dumps(each, ensure_ascii=False, default=str) if as_json else _as_text(each))
    if not described and not as_json:
        click.echo(f"{_parking(queue)} is empty.")


def requeue(config: Mapping[str, Any], queue: str, limit: int | None) -> None:
    """Give parked messages back to where they came from.

    Each is acknowledged when the broker has confirmed its return: when this is interrupted, one may be in both places.

    :raises CommandError: when there is no such queue, a message cannot be given back, or there is no broker
    """
    settings = _settings(config)
    name = _parking(queue)
    moved = left = 0
    with _client(settings) as client:
        total = _count(client, name)  # what fails again meanwhile is not moved again
        for message in _take(client, name, total if limit is None else limit, Codecs.from_config(config, settings)):
            address = _return_address(message)
            if address is None:
                left += 1  # returns to its place when the connection is closed
                continue
            _give_back(client, message, address)
            moved += 1
    click.echo(f"{_counted(moved, 'message')} given back from {name}.")
    if left:
        unknown = "does not say where it came from, and is" if left == 1 else "do not say where they came from, and are"
        raise CommandError(f"{_counted(left, 'message')} of {name} {unknown} left there.")


def purge(config: Mapping[str, Any], queue: str, yes: bool) -> None:
    """Drop all parked messages of a queue, after asking.

    :raises CommandError: when there is no such queue, no broker, or nobody who says yes
    """
    name = _parking(queue)
    with _client(_settings(config)) as client:
        count = _count(client, name)
    if not yes:
        _confirm(count, name)
    with _client(_settings(config)) as client:
        dropped = client.call(lambda channel: channel.queue_purge(name), Deadline(_TIMEOUT_S))
    click.echo(f"{_counted(dropped, 'message')} dropped from {name}.")


def _confirm(count: int, name: str) -> None:
    what = f"{_counted(count, 'message')} of {name}"
    try:
        agreed = click.confirm(f"Drop {what}?")
    except click.Abort:
        if sys.stdin is not None and sys.stdin.isatty():
            raise
        raise CommandError(f"nobody answers whether to drop {what}: pass --yes to drop") from None
    if not agreed:
        raise CommandError(f"nothing was dropped from {name}")


def _counted(count: object, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _parking(queue: str) -> str:
    return queue if queue.endswith(DEAD_SUFFIX) else derived_name(queue, DEAD_SUFFIX)


# -- the broker


def _settings(config: Mapping[str, Any]) -> AmqpSettings:
    if not config.get("AMQP_URI"):
        raise CommandError("which broker? Name it with --broker URI, or in the configuration (AMQP_URI).")
    settings = AmqpSettings.from_config(config)
    if settings.in_process:
        raise CommandError(f"{settings.masked_uri} is the broker within another process: it cannot be looked at.")
    return settings


@contextmanager
def _client(settings: AmqpSettings) -> Iterator[BlockingClient]:
    client = BlockingClient(settings, "nameko amqp")
    try:
        client.open(Deadline(settings.connect_timeout_s))
        yield client
    except NotFound as exc:
        raise CommandError(f"{exc.reply_text}; `nameko amqp dead list` shows which parking queues there are.") from exc
    except TimeoutError as exc:
        raise CommandError(f"{settings.masked_uri} does not answer in time.") from exc
    except (AMQPError, OSError) as exc:
        raise CommandError(_failure(settings, exc)) from exc
    finally:
        client.close()


def _failure(settings: AmqpSettings, exc: Exception) -> str:
    # Of an OSError without its number, which would stand before the sentence.
    text = str((isinstance(exc, OSError) and exc.strerror) or exc)
    # What fails while connecting names the broker, or the one of several that has refused.
    named = any(mask_uri(uri) in text for uri in settings.uris)
    return text if named else f"no use of {settings.masked_uri}: {text}"


def _count(client: BlockingClient, name: str) -> int:
    declared = client.call(lambda channel: channel.queue_declare(name, passive=True), Deadline(_TIMEOUT_S))
    return int(declared.message_count)


def _take(client: BlockingClient, name: str, limit: int, codecs: Codecs) -> Iterator[Message]:
    for _ in range(limit):
        raw = client.call(lambda channel: channel.basic_get(name), Deadline(_TIMEOUT_S))
        if raw is None:
            return
        yield Message(raw, codecs)


def _return_address(message: Message) -> Address | None:
    exchange, routing_key = message.headers.get(DEAD_RETURN_EXCHANGE), message.headers.get(DEAD_RETURN_KEY)
    return Address(exchange, routing_key) if isinstance(exchange, str) and isinstance(routing_key, str) else None


def _give_back(client: BlockingClient, message: Message, address: Address) -> None:
    deadline = Deadline(_TIMEOUT_S)
    properties = republished_properties(message, returned_headers(message.headers))
    publication = client.send_raw(
        message.body,
        properties,
        exchange=address.exchange,
        routing_key=address.routing_key,
        deadline=deadline,
        mandatory=True,
    )
    client.wait(lambda: publication.done, deadline)
    try:
        publication.result()
    except UndeliverableMessage:
        raise CommandError(
            f"a message has no queue to go back to (exchange `{address.exchange}`, routing key "
            f"`{address.routing_key}`): start its service, which makes the queue. It is left where it is."
        ) from None
    client.call(lambda channel: channel.basic_ack(message.delivery_tag), deadline)


def _ask_management(settings: AmqpSettings, url: str | None) -> list[str]:
    parts = urlsplit(settings.uris[0])
    target = _management_url(settings, url)
    user, password = (target.username or parts.username or "guest"), (target.password or parts.password or "guest")
    place = f"{target.scheme}://{target.netloc.rpartition('@')[2]}{target.path.rstrip('/')}"
    request = urllib.request.Request(
        f"{place}/api/queues/{quote(vhost_of(settings), safe='')}?columns=name",
        headers={"Authorization": f"Basic {b64encode(f'{unquote(user)}:{unquote(password)}'.encode()).decode()}"},
    )
    try:
        with _opener(settings).open(request, timeout=_TIMEOUT_S) as response:
            queues = json.load(response)
    except (OSError, ValueError) as exc:  # urllib's own errors are among them
        remedy = _management_remedy(exc, has_user=target.username is not None)
        raise CommandError(
            f"the management API at {place} does not say which queues there are ({exc}): {remedy}."
        ) from exc
    return [each["name"] for each in queues if each["name"].endswith(DEAD_SUFFIX)]


def _management_remedy(exc: Exception, has_user: bool) -> str:
    if not isinstance(exc, urllib.error.HTTPError) or exc.code not in (401, 404):
        return "name the queues, or the API with --management URL"
    if has_user:
        return "check user and password in --management, and the virtual host in AMQP_URI"
    return CHECK_CREDENTIALS


def _management_url(settings: AmqpSettings, url: str | None) -> SplitResult:
    if url is None:
        host = urlsplit(settings.uris[0]).hostname or "localhost"
        host = f"[{host}]" if ":" in host else host
        # The password that goes to the broker over TLS goes nowhere without.
        return urlsplit(f"http://{host}:15672" if settings.ssl is None else f"https://{host}:15671")
    try:
        target = urlsplit(url)
        well_formed = target.scheme in ("http", "https") and target.hostname and target.port != 0
    except ValueError:  # whose text may have a part of the password in it
        well_formed = False
    if not well_formed:
        raise CommandError("--management takes a URL like http://host:15672, with user and password before the host.")
    return target


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    # The password would go along, to wherever.
    def redirect_request(self, *_: Any) -> None:
        return None


def _opener(settings: AmqpSettings) -> urllib.request.OpenerDirector:
    context = None if settings.ssl is None else make_context(settings.ssl)
    return urllib.request.build_opener(_NoRedirect, urllib.request.HTTPSHandler(context=context))


def vhost_of(settings: AmqpSettings) -> str:
    """The name of the virtual host."""
    return unquote(urlsplit(settings.uris[0]).path[1:]) or "/"


# -- what a message says


def _describe(message: Message) -> dict[str, Any]:
    headers = message.headers
    origin = origin_of(message)
    return {
        "reason": headers.get(DEAD_REASON),
        "error": headers.get(DEAD_ERROR),
        "attempts": headers.get(DEAD_ATTEMPTS),
        "since": headers.get(DEAD_SINCE),
        "exchange": origin.exchange,
        "routing_key": origin.routing_key,
        "headers": without_marks(headers),
        "body": _body(message),
        "traceback": headers.get(DEAD_TRACEBACK),
    }


def _body(message: Message) -> str:
    body = message.body if isinstance(message.body, bytes) else str(message.body).encode()
    text = body.decode("utf-8", "backslashreplace")
    return text if len(text) <= _BODY_LENGTH else f"{text[:_BODY_LENGTH]}... ({len(body)} bytes)"


def _as_text(described: Mapping[str, Any]) -> str:
    lines = [
        f"{described['since'] or 'since when is unknown'}: {described['error'] or 'why is unknown'}",
        f"  after {_counted(described['attempts'], 'attempt')}, given up for {described['reason']}",
        f"  from exchange `{described['exchange']}`, routing key `{described['routing_key']}`",
        f"  headers: {json.dumps(described['headers'], ensure_ascii=False, default=str)}",
        f"  body: {described['body']}",
        *(f"  {line}" for line in (described["traceback"] or "").splitlines()),
    ]
    return "\n".join(lines) + "\n"

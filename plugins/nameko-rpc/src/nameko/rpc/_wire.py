"""What a request and a reply look like on the wire, and which of them are refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nameko.exceptions import MalformedRequest, deserialize, serialize


class Refused(Exception):
    """A message in the request queue that is no request, or one that cannot be answered: to be rejected."""


def request_body(args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The body of a request."""
    return {"args": args, "kwargs": kwargs}


def read_request(body: Any) -> tuple[Sequence[Any], dict[str, Any]]:
    """Positional and keyword arguments in the body of a request.

    :raises MalformedRequest: when it does not have the form of one
    """
    try:
        args, kwargs = body["args"], body["kwargs"]
    except (KeyError, TypeError, IndexError):
        raise MalformedRequest("Message missing `args` or `kwargs`") from None
    if not isinstance(args, (list, tuple)):
        raise MalformedRequest(f"`args` must be a list, not {type(args).__name__}")
    if not isinstance(kwargs, dict) or not all(isinstance(key, str) for key in kwargs):
        raise MalformedRequest("`kwargs` must be an object with strings as keys")
    return args, kwargs


def check_answerable(message: Any) -> None:
    """Check that a reply to this request has somewhere to go.

    Replies share their exchange with requests. Every service's routing key has a dot in it and no reply's has, so a
    `reply_to` with a dot would send the reply to a service, as a request.

    :raises Refused: when it has not
    """
    reply_to = message.properties.get("reply_to")
    if not reply_to or not isinstance(reply_to, str):
        raise Refused("it has no reply_to")
    if "." in reply_to:
        raise Refused(f"its reply_to `{reply_to}` is the address of a service")


def check_is_no_reply(body: Any) -> None:
    """Check that the body is not that of a reply gone astray: answering it could go round for ever.

    :raises Refused: when it is
    """
    if isinstance(body, dict) and "result" in body and "error" in body:
        raise Refused("it is a reply, not a request")


def result_body(result: Any) -> dict[str, Any]:
    """The body of a reply that carries a result."""
    return {"result": result, "error": None}


def error_body(exc: BaseException) -> dict[str, Any]:
    """The body of a reply that carries an exception."""
    return {"result": None, "error": serialize(exc)}


def reply_body(message: Any) -> dict[str, Any]:
    """The decoded body of a reply; one that cannot be understood is read as an error of its own."""
    try:
        body = message.decode()
    except Exception as exc:  # refused content type, broken encoding, syntax
        return _malformed(f"the reply cannot be read: {exc}")
    if not isinstance(body, dict) or not ("result" in body or "error" in body):
        return _malformed("the reply has neither a result nor an error")
    return body


def _malformed(text: str) -> dict[str, Any]:
    return {"result": None, "error": {"exc_type": "MalformedReply", "value": text}}


def outcome(body: dict[str, Any]) -> Any:
    """The result in the body of a reply.

    :raises: the remote exception that is in it instead
    """
    error = error_in(body)
    if error is not None:
        raise error
    return body.get("result")


def error_in(body: dict[str, Any]) -> BaseException | None:
    """The remote exception in the body of a reply; None when there is a result instead."""
    error = body.get("error")
    return deserialize(error) if error else None

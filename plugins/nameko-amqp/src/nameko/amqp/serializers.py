"""Serializers: how payloads become bodies and back, with kombu's registry behind it.

A `Codecs` object holds what a container may send and accept, looked up once. JSON is treated here rather than by kombu,
for two reasons: NaN and Infinity are no JSON and are refused, and a dict of the user that happens to look like one of
kombu's typed values (`{"__type__": ..., "__value__": ...}`) is left as it is rather than refused.
"""

from __future__ import annotations

import bz2
import json
import logging
import lzma
import sys
import zlib
from collections.abc import Callable, Iterable, Mapping
from json.encoder import c_make_encoder, encode_basestring_ascii  # type: ignore[attr-defined]
from typing import Any

import kombu.serialization
import kombu.utils.json
from kombu import compression
from kombu.exceptions import ContentDisallowed, DecodeError, EncodeError

from nameko import serialization
from nameko.amqp.errors import MessageTooLarge
from nameko.amqp.settings import (
    ACCEPT_COMPRESSION_CONFIG_KEY,
    ALLOW_PICKLE_CONFIG_KEY,
    MAX_MESSAGE_BYTES_CONFIG_KEY,
    AmqpSettings,
)
from nameko.constants import ACCEPT_CONFIG_KEY, SERIALIZER_CONFIG_KEY, SERIALIZERS_CONFIG_KEY
from nameko.exceptions import ConfigurationError
from nameko.utils import import_from_path

_log = logging.getLogger(__name__)

_JSON_TYPE = "application/json"
_RAW_TYPE = "application/data"
_PICKLE_TYPE = "application/x-python-serialize"
# Bodies that are taken as they are, whatever is accepted: nothing is executed or built from them.
_RAW_TYPES = frozenset([_RAW_TYPE, "application/text"])

#: A content type, a content encoding, and what turns a payload into a body.
Encoder = tuple[str, str, Callable[[Any], Any]]


def _decode_typed(value: dict[str, Any]) -> Any:
    try:
        return kombu.utils.json.object_hook(value)
    except Exception:  # no value that kombu wrote, whatever it looks like
        return value


def decode_json(body: str | bytes) -> Any:
    """The payload of a JSON body, with the types that kombu's encoder knows.

    :raises ValueError: when it is not JSON
    """
    text = body if isinstance(body, str) else str(body, "utf-8")
    if '"__type__"' in text:
        return json.loads(text, object_hook=_decode_typed)
    try:
        value, end = _scan_json(text, 0)
    except StopIteration:  # white space first, or no JSON
        return json.loads(text)
    return value if end == len(text) else json.loads(text)


# The standard library's own scanner and encoder, without what its functions do around them for each call.
_scan_json = json.JSONDecoder().scan_once  # type: ignore[attr-defined]
_json_encoder = kombu.utils.json.JSONEncoder(allow_nan=False)


def _encode_json(payload: Any) -> str:
    if c_make_encoder is None or isinstance(payload, str):  # an interpreter without the accelerator
        return _json_encoder.encode(payload)  # type: ignore[no-any-return]
    encode = c_make_encoder(
        {},  # the containers that are being encoded, by which circles are noticed
        _json_encoder.default,
        encode_basestring_ascii,
        _json_encoder.indent,
        _json_encoder.key_separator,
        _json_encoder.item_separator,
        _json_encoder.sort_keys,
        _json_encoder.skipkeys,
        _json_encoder.allow_nan,
    )
    return "".join(encode(payload, 0))


def register_serializers(config: Mapping[str, Any]) -> None:
    """Register those of `SERIALIZERS` with kombu, under their names.

    :raises ConfigurationError: when an entry is incomplete, or a path leads nowhere
    """
    for name, entry in (config.get(SERIALIZERS_CONFIG_KEY) or {}).items():
        if not isinstance(entry, Mapping):
            raise ConfigurationError(f"{SERIALIZERS_CONFIG_KEY}: `{name}` must be a mapping with encoder and decoder.")
        kombu.serialization.register(
            name,
            _function(name, entry, "encoder"),
            _function(name, entry, "decoder"),
            entry.get("content_type", f"application/{name}"),
            entry.get("content_encoding", "utf-8"),
        )


def _function(name: str, entry: Mapping[str, Any], role: str) -> Callable[[Any], Any]:
    path = entry.get(role)
    try:
        function = import_from_path(path)
    except ImportError as exc:
        raise ConfigurationError(f"{SERIALIZERS_CONFIG_KEY}: {role} of `{name}`: {exc}") from None
    if function is None:
        raise ConfigurationError(f"{SERIALIZERS_CONFIG_KEY}: `{name}` has no {role}.")
    return function  # type: ignore[no-any-return]


class Codecs:
    """What one container sends and accepts.

    :param serializer: the name of the serializer to send with unless told otherwise
    :param accept: names or content types of what is accepted
    :param max_message_bytes: bigger bodies are refused, both ways
    :param accept_compression: names of the compressions that are accepted
    """

    def __init__(
        self,
        serializer: str,
        accept: Iterable[str],
        *,
        max_message_bytes: int = sys.maxsize,
        accept_compression: Iterable[str] = (),
    ) -> None:
        self.serializer = serializer
        self.max_message_bytes = max_message_bytes
        self.accept = frozenset(map(content_type_of, accept))
        self._decompressors = _decompressors(accept_compression)
        self._encoders: dict[str, Encoder] = {}
        self._decoders: dict[str, Callable[[Any], Any] | None] = {}
        self._encoder(serializer)

    @classmethod
    def from_config(cls, config: Mapping[str, Any], settings: AmqpSettings) -> Codecs:
        """What `config` says; registers its serializers.

        :raises ConfigurationError: when a serializer is not known, or pickle is accepted without `ALLOW_PICKLE`
        """
        register_serializers(config)
        serializer, accept = serialization.setup(config)
        for key, names in ((SERIALIZER_CONFIG_KEY, [serializer]), (ACCEPT_CONFIG_KEY, accept)):
            _check_allowed(key, names, config)
        codecs = cls(
            serializer,
            accept,
            max_message_bytes=settings.max_message_bytes,
            accept_compression=_compressions(config),
        )
        if _PICKLE_TYPE in codecs.accept:
            _log.warning("pickle is accepted: whoever can send a message to this service can run any code in it")
        return codecs

    def encode(self, payload: Any, serializer: str | None = None) -> tuple[str, str, bytes]:
        """Content type, content encoding and body for `payload`.

        :param serializer: its name; the container's by default
        :raises kombu.exceptions.EncodeError: when the payload cannot be serialized
        :raises MessageTooLarge: when the body is too big
        :raises ConfigurationError: when there is no such serializer
        """
        content_type, content_encoding, encode = self._encoder(serializer or self.serializer)
        try:
            body = encode(payload)
        except Exception as exc:
            raise EncodeError(f"cannot serialize as {serializer or self.serializer}: {exc}") from exc
        if isinstance(body, str):
            body = body.encode(content_encoding if content_encoding != "binary" else "utf-8")
        self.check_size(body)
        return content_type, content_encoding, body

    def encoded_body(self, payload: Any, content_type: str, content_encoding: str | None) -> bytes:
        """The body of a message that its publisher has encoded, and says of what type it is.

        :param content_encoding: of a str; UTF-8 when not given
        :raises kombu.exceptions.EncodeError: when it is neither bytes nor str
        :raises MessageTooLarge: when it is too big
        """
        if isinstance(payload, str):
            body = payload.encode(content_encoding or "utf-8")
        elif isinstance(payload, (bytes, bytearray, memoryview)):
            body = bytes(payload)
        else:
            raise EncodeError(
                f"with the option content_type `{content_type}` the body must be bytes or str, not "
                f"{type(payload).__name__}: encode it, or name a `serializer` instead"
            )
        self.check_size(body)
        return body

    def check_size(self, body: bytes) -> None:
        """Refuse a body that is too big.

        :raises MessageTooLarge: when it is
        """
        if len(body) > self.max_message_bytes:
            raise MessageTooLarge(
                f"the message has {len(body)} bytes; {MAX_MESSAGE_BYTES_CONFIG_KEY} allows {self.max_message_bytes}"
            )

    def compress(self, body: bytes, name: str) -> tuple[bytes, str]:
        """`body` compressed, and the value of the header `compression`.

        :raises ConfigurationError: when there is no such compression
        """
        try:
            return compression.compress(body, name)  # type: ignore[no-any-return]
        except KeyError:
            raise ConfigurationError(f"compression `{name}` is not known here.") from None

    def decode(self, body: Any, content_type: str | None, content_encoding: str | None, compressed: Any = None) -> Any:
        """The payload of a received body.

        :param compressed: the header `compression`, if any
        :raises kombu.exceptions.ContentDisallowed: when the content type or the compression is not accepted
        :raises kombu.exceptions.DecodeError: when the body is not what it claims to be
        """
        content_type = content_type or _RAW_TYPE
        if content_type not in self.accept and content_type not in _RAW_TYPES:
            raise ContentDisallowed(f"content type `{content_type}` is not accepted (see {ACCEPT_CONFIG_KEY})")
        if compressed:
            body = self._decompress(body, compressed)
        if not body:
            return body
        try:
            return self._decode(body, content_type, content_encoding)
        except Exception as exc:
            raise DecodeError(f"cannot decode as `{content_type}`: {type(exc).__name__}: {exc}") from exc

    def _decode(self, body: Any, content_type: str, content_encoding: str | None) -> Any:
        if content_type == _JSON_TYPE and _is_kombus_json():
            return decode_json(body)
        return kombu.serialization.loads(body, content_type, content_encoding, accept={content_type})

    def _decompress(self, body: bytes, name: Any) -> bytes:
        decompress = self._decompressors.get(name) if isinstance(name, str) else None
        if decompress is None:
            raise ContentDisallowed(f"compression `{name}` is not accepted (see {ACCEPT_COMPRESSION_CONFIG_KEY})")
        try:
            inflated, complete = decompress(body, self.max_message_bytes)
        except Exception as exc:
            raise DecodeError(f"cannot decompress as `{name}`: {exc}") from exc
        if not complete:
            raise DecodeError(f"does not decompress into {self.max_message_bytes} bytes or less")
        return inflated

    def serializer_for(self, content_type: str) -> str | None:
        """The name of the serializer for a content type; None when there is none."""
        return kombu.serialization.registry.type_to_name.get(content_type)  # type: ignore[no-any-return]

    def _encoder(self, name: str) -> Encoder:
        encoder = self._encoders.get(name)
        if encoder is None:
            encoder = self._encoders[name] = _find_encoder(name)
        return encoder


def _is_kombus_json() -> bool:
    # Somebody may have registered another `json`.
    return kombu.serialization.registry._decoders.get(_JSON_TYPE) is kombu.utils.json.loads


def _find_encoder(name: str) -> Encoder:
    if name == "raw":
        return _RAW_TYPE, "binary", _raw
    codec = kombu.serialization.registry._encoders.get(name)
    if codec is None:
        raise _unknown(name)
    if name == "json" and codec.encoder is kombu.utils.json.dumps:
        return codec.content_type, codec.content_encoding, _encode_json
    return codec.content_type, codec.content_encoding, codec.encoder


def _raw(payload: Any) -> bytes:
    if isinstance(payload, (bytes, str)):
        return payload if isinstance(payload, bytes) else payload.encode()
    raise TypeError(f"raw messages are bytes or strings, not {type(payload).__name__}")


def content_type_of(name: str, key: str = "") -> str:
    """The content type of a serializer, by its name; a content type is returned as it is.

    :param key: the configuration key that names it, for the error
    :raises ConfigurationError: when there is no such serializer
    """
    if "/" in name:
        return name
    if name == "raw":
        return _RAW_TYPE
    try:
        return kombu.serialization.registry.name_to_type[name]  # type: ignore[no-any-return]
    except KeyError:
        raise _unknown(name, key) from None


def _unknown(name: str, key: str = "") -> ConfigurationError:
    hint = f"; {key} names it" if key else ""
    return ConfigurationError(f'Please register a serializer for "{name}" format in {SERIALIZERS_CONFIG_KEY}{hint}')


def _check_allowed(key: str, names: Iterable[str], config: Mapping[str, Any]) -> None:
    for name in names:
        if not isinstance(name, str):
            raise ConfigurationError(f"{key} must name serializers, not {name!r}.")
        if content_type_of(name, key) == _PICKLE_TYPE and config.get(ALLOW_PICKLE_CONFIG_KEY) is not True:
            raise ConfigurationError(
                f"{key} names pickle: whoever can send a message could run any code here. "
                f"If that is wanted, set {ALLOW_PICKLE_CONFIG_KEY}: true as well."
            )


def _compressions(config: Mapping[str, Any]) -> list[str]:
    value = config.get(ACCEPT_COMPRESSION_CONFIG_KEY) or []
    names = [value] if isinstance(value, str) else value
    unknown = [name for name in names if name not in _ALIASES]
    if unknown:
        known = ", ".join(sorted(_ALIASES))
        raise ConfigurationError(f"{ACCEPT_COMPRESSION_CONFIG_KEY}: `{unknown[0]}` is not one of {known}.")
    return list(names)


# kombu's decompressors have no bound: a message of a few kilobytes could take all memory. These return what they have
# once they reach the limit, and whether that was everything.


def _inflate(body: bytes, limit: int) -> tuple[bytes, bool]:
    decompressor = zlib.decompressobj()
    inflated = decompressor.decompress(body, limit)
    return inflated, decompressor.eof


def _unzip_bz2(body: bytes, limit: int) -> tuple[bytes, bool]:
    decompressor = bz2.BZ2Decompressor()
    return decompressor.decompress(body, limit), decompressor.eof


def _unzip_lzma(body: bytes, limit: int) -> tuple[bytes, bool]:
    decompressor = lzma.LZMADecompressor(memlimit=256 * 1024 * 1024)
    return decompressor.decompress(body, limit), decompressor.eof


_ALIASES = {
    "gzip": "application/x-gzip",
    "zlib": "application/x-gzip",
    "bzip2": "application/x-bz2",
    "lzma": "application/x-lzma",
}
_BOUNDED = {"application/x-gzip": _inflate, "application/x-bz2": _unzip_bz2, "application/x-lzma": _unzip_lzma}


def _decompressors(names: Iterable[str]) -> dict[str, Callable[[bytes, int], tuple[bytes, bool]]]:
    accepted: dict[str, Callable[[bytes, int], tuple[bytes, bool]]] = {}
    for name in names:
        content_type = _ALIASES[name]
        accepted[content_type] = accepted[name] = _BOUNDED[content_type]
    return accepted

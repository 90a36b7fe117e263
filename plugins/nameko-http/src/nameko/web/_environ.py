"""The WSGI environment of a request (PEP 3333)."""

from __future__ import annotations

import sys
from typing import Any
from urllib.parse import unquote_to_bytes

from werkzeug.wsgi import FileWrapper

from nameko.web._head import RequestHead

Environ = dict[str, Any]

# Field name in lower case -> key of the environment. Clients repeat the same few names; the bound is for those that
# invent some.
_keys: dict[str, str | None] = {"content-type": "CONTENT_TYPE", "content-length": "CONTENT_LENGTH"}
_MAX_KEYS = 1000


def connection_environ(local: tuple[str, int], peer: tuple[str, int], scheme: str) -> Environ:
    """What the requests of one connection have in common.

    :param local: host and port of the server
    :param peer: address and port of the client; two empty values on a Unix socket
    """
    return {
        "SCRIPT_NAME": "",
        "SERVER_NAME": local[0],
        "SERVER_PORT": str(local[1]),
        "REMOTE_ADDR": peer[0],
        "REMOTE_PORT": str(peer[1]),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scheme,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        "wsgi.input_terminated": True,
        "wsgi.file_wrapper": FileWrapper,
    }


def request_environ(base: Environ, head: RequestHead) -> Environ:
    """The environment of one request, but for `wsgi.input`.

    Fields of the same name are joined by a comma. A field with an underscore in its name is left out: in the
    environment it could not be told from the one with a hyphen, which a proxy may have checked.
    """
    environ = base.copy()
    target = head.target
    path, _, query = target.partition("?")
    environ["REQUEST_METHOD"] = head.method
    environ["PATH_INFO"] = unquote_to_bytes(path).decode("latin-1") if "%" in path else path
    environ["QUERY_STRING"] = query
    environ["REQUEST_URI"] = environ["RAW_URI"] = target
    environ["SERVER_PROTOCOL"] = "HTTP/1.1" if head.version == "1.1" else "HTTP/1.0"
    for name, value in head.fields:
        key = _keys.get(name) or _key(name)
        if key is None:
            continue
        if key in environ:
            value = f"{environ[key]}{'; ' if key == 'HTTP_COOKIE' else ','}{value}"
        environ[key] = value
    return environ


def _key(name: str) -> str | None:
    key = None if "_" in name else "HTTP_" + name.upper().replace("-", "_")
    if len(_keys) < _MAX_KEYS:
        _keys[name] = key
    return key

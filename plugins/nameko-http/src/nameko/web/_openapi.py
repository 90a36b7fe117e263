"""An OpenAPI document of a service's routes, made from the routes and their docstrings."""

from __future__ import annotations

import inspect
import json
import re
from typing import Any

from werkzeug.routing import Map, Rule
from werkzeug.wrappers import Request, Response

from nameko.web._routes import PLACEHOLDER

# Schema of a URL value by the name of its converter; anything else is a string.
_SCHEMAS: dict[str, dict[str, Any]] = {
    "int": {"type": "integer"},
    "float": {"type": "number"},
    "uuid": {"type": "string", "format": "uuid"},
}
# Methods that OpenAPI knows; werkzeug adds HEAD to GET by itself, which is nothing to write about.
_METHODS = ("get", "put", "post", "delete", "options", "patch", "trace")


class OpenApiDocument:
    """Answers with the document; stands among the endpoints of the routes that it describes.

    :param service_cls: the service, for its methods' docstrings
    """

    def __init__(self, service_cls: type, service_name: str, url_map: Map) -> None:
        self._service_cls = service_cls
        self._service_name = service_name
        self._url_map = url_map
        self._text: str | None = None

    def handle_request(self, request: Request) -> Response:
        """The response for a request of the document."""
        if self._text is None:
            self._text = json.dumps(self.document())
        return Response(self._text, mimetype="application/json")

    def document(self) -> dict[str, Any]:
        """The document, as OpenAPI 3.1 has it."""
        paths: dict[str, dict[str, Any]] = {}
        for rule in self._url_map.iter_rules():
            method_name = getattr(rule.endpoint, "method_name", None)
            if method_name is not None:
                path = PLACEHOLDER.sub(r"{\g<name>}", rule.rule)
                paths.setdefault(path, {}).update(self._operations(rule, method_name))
        info = {"title": self._service_name, "version": str(getattr(self._service_cls, "version", "1"))}
        summary, description = _documentation(self._service_cls)
        info.update({key: text for key, text in (("summary", summary), ("description", description)) if text})
        return {"openapi": "3.1.0", "info": info, "paths": dict(sorted(paths.items()))}

    def _operations(self, rule: Rule, method_name: str) -> dict[str, Any]:
        operation = self._operation(rule, method_name)
        methods = [method.lower() for method in rule.methods or ("GET",)]
        known = [method for method in _METHODS if method in methods]
        # An operation's id must be unique, and one method may serve several.
        return {
            method: {"operationId": method_name if len(known) == 1 else f"{method_name}_{method}", **operation}
            for method in known
        }

    def _operation(self, rule: Rule, method_name: str) -> dict[str, Any]:
        summary, description = _documentation(getattr(self._service_cls, method_name, None))
        parameters = [
            {"name": match["name"], "in": "path", "required": True, "schema": _schema(match)}
            for match in PLACEHOLDER.finditer(rule.rule)
        ]
        operation: dict[str, Any] = {"responses": {"default": {"description": "The service's response"}}}
        for key, value in (("summary", summary), ("description", description), ("parameters", parameters)):
            if value:
                operation[key] = value
        return operation


def _schema(match: re.Match[str]) -> dict[str, Any]:
    if match["converter"] == "any":
        choices = [choice.strip().strip("\"'") for choice in (match["options"] or "").split(",")]
        return {"type": "string", "enum": choices}
    return _SCHEMAS.get(match["converter"] or "", {"type": "string"})


def _documentation(documented: object) -> tuple[str, str]:
    """First line and rest of a docstring."""
    text = inspect.getdoc(documented) if getattr(documented, "__doc__", None) else ""
    summary, _, description = (text or "").partition("\n")
    return summary.strip(), description.strip()

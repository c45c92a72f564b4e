"""The OpenAPI document: the project's JSON Schemas, and the few shapes that only the server has."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from edgeemo.schemas import load_schema

_SHARED = ("reading", "event", "stats", "devices")
_TEXT = {"type": "string"}
_OWN: dict[str, dict[str, Any]] = {
    "error": {
        "type": "object",
        "required": ["error"],
        "properties": {"error": {**_TEXT, "description": "what was wrong and what to do, in a sentence"}},
    },
    "health": {"type": "object", "required": ["ok"], "properties": {"ok": {"const": True}}},
    "ready": {
        "type": "object",
        "required": ["ready", "why"],
        "properties": {
            "ready": {"type": "boolean"},
            "why": {**_TEXT, "description": "why no readings come; empty while they do"},
        },
    },
    "events": {
        "type": "object",
        "required": ["events"],
        "properties": {"events": {"type": "array", "items": {"$ref": "#/components/schemas/event"}}},
    },
    "modality": {
        "type": "object",
        "required": ["modality", "muted"],
        "properties": {"modality": _TEXT, "muted": {"type": "boolean"}},
    },
    "notice": {
        "type": "object",
        "required": ["text", "acknowledged", "by"],
        "properties": {
            "text": _TEXT,
            "acknowledged": {"type": "boolean"},
            "by": {"type": ["string", "null"], "description": "who acknowledged it"},
        },
    },
}
_SAID = {
    400: "The request makes no sense here",
    404: "There is no such thing",
    503: "Not now",
}
_EVERYWHERE = {
    "401": "No token, or not the one of this server",
    "403": "Asked by a page of another site",
    "413": "The request is too large",
    "429": "Asked too often",
}


def answer_of(name: str) -> dict[int | str, dict[str, Any]]:
    """Returns what FastAPI is told of a route that answers with that shape."""
    return {200: _answer("Successful", name)}


def error_answers(*statuses: int, schema: str = "error") -> dict[int | str, dict[str, Any]]:
    """Returns what FastAPI is told of a route that may refuse with these."""
    return {status: _answer(_SAID[status], schema) for status in statuses}


def _answer(text: str, name: str) -> dict[str, Any]:
    return {
        "description": text,
        "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}},
    }


def openapi_document(app: FastAPI) -> dict[str, Any]:
    """Returns the document, made once."""
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes
        )
        components = document.setdefault("components", {})
        shapes = components.setdefault("schemas", {})
        shapes.update(_OWN)
        for name in _SHARED:
            shapes.update(_shared_shapes(name))
        components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"token": []}, {}]  # none is needed on loopback unless one was given
        for operation in _operations(document):
            for status, text in _EVERYWHERE.items():
                operation["responses"].setdefault(status, _answer(text, "error"))
            if "422" in operation["responses"]:
                operation["responses"]["422"] = _answer("The request holds something else", "error")
        shapes.pop("HTTPValidationError", None)
        shapes.pop("ValidationError", None)
        app.openapi_schema = document
    return app.openapi_schema


def _operations(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for path in document["paths"].values():
        yield from path.values()


def _shared_shapes(name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields a schema of the project and its parts under names of this document."""
    text = json.dumps(load_schema(name)).replace('"#/$defs/', f'"#/components/schemas/{name}.')
    schema = json.loads(text)
    for part, shape in schema.pop("$defs", {}).items():
        yield f"{name}.{part}", shape
    for key in ("$schema", "$id"):
        schema.pop(key, None)
    yield name, schema

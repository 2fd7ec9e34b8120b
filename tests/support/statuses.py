"""This module provokes every status in an OpenAPI document and checks its answer against it.

A service's table has a request for each documented route and status, and no others.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import schemathesis
from fastapi import FastAPI
from schemathesis.core import NOT_SET
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.support.server import served

KEY = "ada-key-12345"
KEYS = f"ada:{KEY}"
GUARDS: dict[str, Any] = {"api_keys": KEYS, "allowed_hosts": ("127.0.0.1",)}
"""Settings of a service that can refuse for every reason."""

_CHECKS = [
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    response_headers_conformance,
]


@dataclass(frozen=True)
class Sent:
    """A request, and the name of the server in the service's tests that it is sent to."""

    body: Any = NOT_SET
    media_type: str | None = None
    query: tuple[tuple[str, str], ...] = ()
    path: tuple[tuple[str, str], ...] = ()
    key: str = KEY
    host: str | None = None
    to: str = "sound"

    def but(self, **changes: Any) -> Sent:
        return replace(self, **changes)


Table = Mapping[str, Mapping[int, Sent]]
"""Requests by route (as in `POST /api/tts`) and status."""


def guarded(good: Sent) -> dict[int, Sent]:
    """Return the rows of every route that needs a key."""
    return {
        200: good,
        400: good.but(host="elsewhere.example"),
        401: good.but(key="no-key-of-anybody"),
    }


@contextmanager
def sound_leaving_faulty(build: Callable[..., FastAPI], fault: object) -> Iterator[dict[str, str]]:
    """Start three servers and yield their URLs; `build` is given `fault` for the faulty one."""
    with served(build()) as sound, served(build()) as leaving, served(build(fault)) as faulty:
        leaving.leave()
        yield {"sound": sound.http, "leaving": leaving.http, "faulty": faulty.http}


def rows(table: Table) -> list[tuple[str, int]]:
    """Return the table's rows for `pytest.mark.parametrize`."""
    return [(route, status) for route, answers in table.items() for status in answers]


def documented(url: str) -> set[tuple[str, int]]:
    """Return all routes and statuses in the document of the service at `url`."""
    return set(_documented(url))


def _documented(url: str) -> Iterator[tuple[str, int]]:
    for found in _document(url).get_all_operations():
        operation = found.ok()
        for status in operation.responses.status_codes:
            yield operation.label, int(status)


def provoke(table: Table, route: str, status: int, url: str) -> None:
    """Send the table's request to `url`; the answer must have this status and be as documented."""
    sent = table[route][status]
    method, path = route.split(" ")
    operation = _document(url)[path][method]
    case = operation.Case(
        body=sent.body,
        media_type=sent.media_type,
        query=dict(sent.query),
        path_parameters=dict(sent.path),
        headers={"X-API-Key": sent.key} | ({"Host": sent.host} if sent.host else {}),
    )
    answer = case.call(base_url=url, timeout=20)
    assert answer.status_code == status, answer.content[:500]
    case.validate_response(answer, checks=_CHECKS)
    assert answer.headers["x-request-id"]
    if status >= 400 and "error" in answer.json():
        described = operation.definition.raw["responses"][str(status)]["description"]
        assert answer.json()["error"]["code"] in re.findall(r"`(\w+)`", described)
    assert ("retry-after" in answer.headers) == (status in (429, 503))


def _document(url: str) -> Any:
    # It is read each time, since another test's server may have had this port before.
    return schemathesis.openapi.from_url(f"{url}/openapi.json")

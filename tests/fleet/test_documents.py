"""What the OpenAPI documents promise is what is answered, whatever is sent (Schemathesis)."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from deploy.local import LocalFleet

pytestmark = pytest.mark.fleet

CHECKS = [status_code_conformance, content_type_conformance, response_schema_conformance]
HTTP_METHODS = {"get", "post", "put", "patch", "delete"}
LATER = 503
"""Full, loading or leaving: the one server error that is no fault."""
REQUESTS = 8
"""For each route of each service."""


def document(fleet: LocalFleet, service: str) -> dict[str, Any]:
    described: dict[str, Any] = httpx.get(f"{fleet.url(service)}/openapi.json").json()
    return described


@pytest.mark.parametrize("service", ["tts", "asr", "gateway"])
def test_every_answer_is_one_that_is_documented(fleet: LocalFleet, service: str) -> None:
    schema = schemathesis.openapi.from_url(f"{fleet.url(service)}/openapi.json")
    operations: list[Any] = [found.ok() for found in schema.get_all_operations()]  # type: ignore[union-attr]
    assert len(operations) >= 4
    for operation in operations:

        @settings(
            max_examples=REQUESTS,
            derandomize=True,
            deadline=None,
            database=None,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy())
        def check(case: Any) -> None:
            answer = case.call(timeout=30)
            if answer.status_code != LATER:
                case.validate_response(answer, checks=[not_a_server_error, *CHECKS])
            else:
                case.validate_response(answer, checks=CHECKS)

        check()


@pytest.mark.parametrize("service", ["tts", "asr", "gateway"])
def test_every_route_says_what_it_is_for_and_shows_an_example(
    fleet: LocalFleet, service: str
) -> None:
    described = document(fleet, service)
    for path, methods in described["paths"].items():
        for method in HTTP_METHODS & set(methods):
            route = methods[method]
            assert route["summary"], path
            for media_type, content in route.get("requestBody", {}).get("content", {}).items():
                assert "schema" in content, (path, media_type)
            assert examples(described, route), f"{method} {path} has no example"


def examples(described: dict[str, Any], part: Any) -> bool:
    """Whether `part` of a document, or what it refers to, shows an example."""
    if isinstance(part, list):
        return any(examples(described, each) for each in part)
    if not isinstance(part, dict):
        return False
    if part.get("examples") or "example" in part or "default" in part.get("schema", {}):
        return True
    if "$ref" in part:
        name = part["$ref"].rpartition("/")[2]
        return examples(described, described["components"]["schemas"][name])
    return any(examples(described, each) for each in part.values())

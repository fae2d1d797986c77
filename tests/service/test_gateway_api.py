"""What every endpoint shares: problems, request ids, health, metrics, and a document that describes them truly."""

import json
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import pytest
from structlog.testing import capture_logs

from tests.support.gateway import Front, problem_of
from tests.support.pipeline import llm_event

EVENT = llm_event("e-1")


async def test_a_request_keeps_the_id_it_came_with_and_else_gets_one(front: Front) -> None:
    answer = await front.send("/events", EVENT, headers={"X-Request-ID": "abc-1.2_3"})
    assert answer.headers["x-request-id"] == "abc-1.2_3"
    made = set()
    for stated in ("", "with space", "x" * 65, 'quote"', "ü".encode()):
        answer = await front.send("/events", EVENT, headers={"X-Request-ID": stated})  # type: ignore[dict-item]
        made.add(answer.headers["x-request-id"])
    assert len(made) == 5
    assert all(len(request_id) == 24 and request_id.isalnum() for request_id in made)
    assert answer.headers.get_list("x-request-id") == [answer.headers["x-request-id"]]


async def test_a_wrong_address_is_a_problem_too(front: Front) -> None:
    for method, path, status, code in (
        ("GET", "/", 404, "not_found"),
        ("GET", "/api/v1/nothing", 404, "not_found"),
        ("GET", "/api/v1/services/nothing", 404, "not_found"),
        ("GET", "/api/v1/services/%00", 404, "not_found"),
        ("GET", "/api/v1/events", 405, "method_not_allowed"),
        ("DELETE", "/api/v1/events/batch", 405, "method_not_allowed"),
        ("POST", "/health", 405, "method_not_allowed"),
    ):
        answer = await front.client.request(method, path, headers={"X-API-Key": front.tenant.key})
        problem_of(answer, status, code)
        assert ("allow" in answer.headers) == (status == 405)


async def test_a_fault_of_ours_is_answered_without_its_details(front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError(f"SELECT secret FROM api_keys -- {front.tenant.key}")

    monkeypatch.setattr(front.app.state.resources.ingestor, "ingest", fail)
    with capture_logs() as lines:
        answer = await front.send("/events", EVENT)
    problem = problem_of(answer, 500, "internal_error")
    assert "request_id" in problem["detail"]
    (line,) = (line for line in lines if line["event"] == "request_failed")
    assert line["request_id"] == problem["request_id"]
    assert "secret" not in answer.text


async def test_health_says_what_is_up_to_anyone(front: Front) -> None:
    health = await front.client.get("/health")
    assert health.json() == {
        "status": "healthy",
        "service": "api_gateway",
        "checks": {"redis": "up", "registry": "up", "database": "up"},
    }
    assert (await front.client.get("/livez")).json() == {"status": "alive"}
    ready = await front.client.get("/readyz")
    assert (ready.status_code, ready.json()["status"]) == (200, "ready")


async def metric(front: Front, name: str) -> float:
    text = (await front.client.get("/metrics")).text
    return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(name))


async def test_metrics_count_what_was_accepted_refused_and_answered(front: Front) -> None:
    names = (
        "usage_events_accepted_total",
        'usage_events_rejected_total{code="missing_field"}',
        'usage_http_requests_total{method="POST",route="/api/v1/events/batch",status="2xx"}',
    )
    before = [await metric(front, name) for name in names]
    assert (await front.send("/events/batch", [EVENT, EVENT, EVENT | {"user_id": ""}])).status_code == 202
    assert [await metric(front, name) - count for name, count in zip(names, before, strict=True)] == [2, 1, 1]
    text = (await front.client.get("/metrics")).text
    assert front.tenant.tenant_id not in text
    for name in ("nothing-here", "nor-here"):
        await front.client.get(f"/{name}")
        assert name not in (await front.client.get("/metrics")).text


# --- the OpenAPI document ---------------------------------------------------------------------------------------------


@pytest.fixture
async def document(front: Front) -> dict[str, Any]:
    answer = await front.client.get("/openapi.json")
    assert answer.status_code == 200
    described: dict[str, Any] = answer.json()
    return described


def parts_of(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from parts_of(part)


def request_schema(
    document: dict[str, Any], path: str, media_type: str = "application/json"
) -> jsonschema_rs.Validator:
    schema = document["paths"][path]["post"]["requestBody"]["content"][media_type]["schema"]
    return jsonschema_rs.validator_for(schema)


async def test_every_reference_leads_somewhere_and_every_schema_is_one(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1")
    for part in parts_of(document):
        if isinstance(reference := part.get("$ref"), str):
            target: Any = document
            for name in reference.removeprefix("#/").split("/"):
                target = target[name]
            assert target
        if isinstance(schema := part.get("schema"), dict):
            jsonschema_rs.validator_for(schema | {"components": document["components"]})
    for schema in document["components"]["schemas"].values():
        jsonschema_rs.meta.validate(schema)


async def test_every_endpoint_of_ours_is_described_with_its_errors_and_its_key(document: dict[str, Any]) -> None:
    operations = {
        f"{method} {path}": operation for path, item in document["paths"].items() for method, operation in item.items()
    }
    assert {
        "post /api/v1/events", "post /api/v1/events/batch", "post /api/v1/services", "get /api/v1/services",
        "get /api/v1/services/{service_type}", "get /api/v1/usage",
        "get /health", "get /livez", "get /readyz", "get /metrics",
    } <= operations.keys()  # fmt: skip
    assert len({operation["operationId"] for operation in operations.values()}) == len(operations)
    assert {"X-API-Key", "bearer"} == {
        scheme.get("name", scheme.get("scheme")) for scheme in document["components"]["securitySchemes"].values()
    }
    for name, operation in operations.items():
        assert operation["responses"]["default"]["content"]["application/json"]["schema"]["$ref"].endswith("/Problem")
        assert (operation.get("security") == []) == (not name.split(" ")[1].startswith("/api/"))


async def test_the_described_event_is_the_accepted_one(document: dict[str, Any]) -> None:
    event = request_schema(document, "/api/v1/events")
    for good in (EVENT, EVENT | {"latency_ms": 0.5, "tags": ["a"], "timestamp": "2026-01-01T00:00:00Z"}):
        assert event.is_valid(good)
    for bad in (
        {},
        EVENT | {"user_id": 5},
        EVENT | {"user_id": "x" * 129},
        EVENT | {"metrics": {"input_tokens": "1"}},
        EVENT | {"metrics": {"input_tokens": -1}},
        EVENT | {"tags": ["a"] * 33},
        EVENT | {"status": "done"},
    ):
        assert not event.is_valid(bad)


async def test_the_described_batch_is_an_object_an_array_or_lines(document: dict[str, Any]) -> None:
    batch = request_schema(document, "/api/v1/events/batch")
    assert batch.is_valid({"events": [EVENT]})
    assert batch.is_valid([EVENT])
    assert not batch.is_valid({"events": [{}]})
    assert not batch.is_valid(EVENT)
    assert request_schema(document, "/api/v1/events/batch", "application/x-ndjson").is_valid(EVENT)


async def test_the_described_registration_is_the_accepted_one(document: dict[str, Any]) -> None:
    registration = request_schema(document, "/api/v1/services")
    good = {"service_type": "mine", "service_name": "Mine", "billing_config": {"unit": "p", "rates": {"standard": 0.1}}}
    assert registration.is_valid(good)
    assert not registration.is_valid(good | {"service_type": "Not Mine"})
    assert not registration.is_valid(good | {"billing_config": {"unit": "p"}})


async def test_the_documentation_page_is_served(front: Front) -> None:
    page = await front.client.get("/docs")
    assert page.status_code == 200
    assert "/openapi.json" in page.text
    assert json.loads((await front.client.get("/openapi.json")).text)["info"]["title"]

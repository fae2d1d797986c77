"""The registry: service types of a tenant's own, their rates and schemas, and the events that are then taken."""

import json
from typing import Any

import asyncpg
import pytest
import redis.asyncio as redis

from services.api_gateway.json_schema import compile_schema
from shared.domain.errors import InvalidRequest
from shared.storage.database import Database
from shared.storage.registry import RegistryStore
from tests.conftest import MakeTenant, add_key
from tests.support.gateway import Front, problem_of
from tests.support.pipeline import drain, make_processor

SERVICE = {
    "service_type": "custom_ml_service",
    "service_name": "Custom ML Service",
    "providers": ["provider_a", "provider_b"],
    "required_fields": ["model_version", "predictions"],
    "optional_fields": ["region"],
    "billing_config": {"unit": "predictions", "calculation_method": "multiply", "rates": {"standard": 0.001}},
}
EVENT = {
    "event_id": "e-1",
    "user_id": "u",
    "service_type": "custom_ml_service",
    "service_provider": "provider_a",
    "metadata": {"model_version": "v1"},
    "metrics": {"predictions": 20},
}
SCHEMA = {
    "type": "object",
    "properties": {
        "predictions": {"type": "number", "minimum": 0.1, "maximum": 100},
        "region": {"$ref": "#/$defs/region"},
        "model_version": {"pattern": "^v[0-9]+$"},
    },
    "$defs": {"region": {"enum": ["eu", "us"]}},
}


async def test_a_registered_type_is_listed_and_its_events_taken_and_rated(
    front: Front, redis_client: "redis.Redis", pool: asyncpg.Pool, database: Database
) -> None:
    problem_of(await front.send("/events", EVENT), 422, "invalid_events")
    answer = await front.send("/services", SERVICE)
    assert answer.status_code == 201, answer.text
    registered = answer.json()
    assert {name: registered[name] for name in SERVICE} == SERVICE
    assert (registered["version"], registered["is_enabled"], registered["is_shipped"]) == (1, True, False)
    assert b'"standard":0.001' in answer.content
    headers = {"X-API-Key": front.tenant.key}
    assert (await front.client.get("/api/v1/services/custom_ml_service", headers=headers)).json() == registered
    listed = (await front.client.get("/api/v1/services", headers=headers)).json()
    assert [item["service_type"] for item in listed] == [
        "llm_service",
        "document_processor",
        "api_service",
        "custom_ml_service",
    ]
    flat = {
        "event_id": "e-2",
        "user_id": "u",
        "service_type": "custom_ml_service",
        "model_version": "v1",
        "predictions": 3,
    }
    assert (await front.send("/events/batch", [EVENT, flat])).status_code == 202
    await drain(redis_client, make_processor(redis_client, pool, database))
    rows = await pool.fetch(
        "SELECT event_id, cost FROM usage_events WHERE tenant = $1 ORDER BY event_id", front.tenant.scope.number
    )
    assert [(row["event_id"], str(row["cost"])) for row in rows] == [("e-1", "0.020"), ("e-2", "0.003")]


async def test_registered_fields_are_required_wherever_they_stand(front: Front) -> None:
    assert (await front.send("/services", SERVICE)).status_code == 201
    for event, field, code in (
        (EVENT | {"metrics": {}}, "predictions", "missing_field"),
        (EVENT | {"metadata": {}}, "model_version", "missing_field"),
        (EVENT | {"region": None, "colour": "red"}, "colour", "unknown_field"),
        (EVENT | {"metrics": {"predictions": -1}}, "metrics.predictions", "negative_quantity"),
    ):
        (item,) = problem_of(await front.send("/events", event), 422, "invalid_events")["errors"]
        assert (item["field"], item["code"]) == (field, code)
    assert await front.queue_length() == 0


async def test_a_schema_is_held_against_each_event_with_exact_numbers(front: Front) -> None:
    assert (await front.send("/services", {**SERVICE, "validation_schema": SCHEMA})).status_code == 201
    for changes, field in (
        ({"metrics": {"predictions": 0.0999999999999999}}, "predictions"),
        ({"metrics": {"predictions": 100.5}}, "predictions"),
        ({"metadata": {"model_version": "1"}}, "model_version"),
        ({"region": "mars"}, "region"),
    ):
        (item,) = problem_of(await front.send("/events", EVENT | changes), 422, "invalid_events")["errors"]
        assert (item["field"], item["code"]) == (field, "schema_mismatch")
        assert len(item["message"]) <= 300
    for number, predictions in enumerate((0.1, 100, 7.25)):
        event = EVENT | {"event_id": f"e-{number}", "metrics": {"predictions": predictions}, "region": "eu"}
        assert (await front.send("/events", event)).status_code == 202
    assert await front.queue_length() == 3


async def test_a_tenants_type_is_invisible_to_other_tenants(front: Front, make_tenant: MakeTenant) -> None:
    assert (await front.send("/services", SERVICE)).status_code == 201
    other = {"X-API-Key": (await make_tenant()).key}
    assert len((await front.client.get("/api/v1/services", headers=other)).json()) == 3
    problem_of(await front.client.get("/api/v1/services/custom_ml_service", headers=other), 404, "not_found")
    problem_of(await front.send("/events", EVENT, headers=other), 422, "invalid_events")
    assert (await front.send("/services", SERVICE, headers=other)).status_code == 201


async def test_rates_are_absent_for_a_key_that_may_not_read_costs(front: Front, pool: asyncpg.Pool) -> None:
    assert (await front.send("/services", SERVICE)).status_code == 201
    reader = {"X-API-Key": await add_key(pool, tenant=front.tenant.scope.number, scopes=["read"])}
    for path in ("/api/v1/services", "/api/v1/services/custom_ml_service"):
        answer = await front.client.get(path, headers=reader)
        assert answer.status_code == 200
        assert "billing_config" not in answer.text
        assert "0.001" not in answer.text


async def test_a_name_is_taken_once(front: Front) -> None:
    assert (await front.send("/services", SERVICE)).status_code == 201
    problem_of(await front.send("/services", SERVICE), 409, "conflict")
    problem_of(await front.send("/services", SERVICE | {"service_type": "llm_service"}), 409, "conflict")


def doubling(levels: int) -> dict[str, Any]:
    """A schema of a few lines that takes 2^levels steps to check anything against."""
    twice = {f"a{n}": {"allOf": [{"$ref": f"#/$defs/a{n - 1}"}] * 2} for n in range(1, levels)}
    return {"$defs": {"a0": {"type": "object"}, **twice}, "$ref": f"#/$defs/a{levels - 1}"}


def deep(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(levels):
        schema = {"allOf": [schema]}
    return schema


BAD_REGISTRATIONS: list[tuple[dict[str, Any], str]] = [
    ({"service_type": "With Spaces"}, "service_type"),
    ({"service_type": "x" * 65}, "service_type"),
    ({"service_type": None}, "service_type"),
    ({"service_name": ""}, "service_name"),
    ({"service_name": "a\x00b"}, "body"),
    ({"service_name": "a\ud800b"}, "body"),
    ({"description": "\x00"}, "body"),
    ({"providers": ["x" * 200]}, "providers.0"),
    ({"providers": "acme"}, "providers"),
    ({"required_fields": ["with spaces"]}, "required_fields.0"),
    ({"required_fields": [5]}, "required_fields.0"),
    ({"optional_fields": ["$cost"]}, "optional_fields.0"),
    ({"billing_config": {"unit": "p", "rates": {"": 1}}}, "billing_config.rates"),
    ({"billing_config": {"unit": "p", "rates": {"standard": -1}}}, "billing_config.rates"),
    ({"billing_config": {"unit": "p", "rates": {"standard": float("nan")}}}, "body"),
    ({"billing_config": {"unit": "p", "rates": {"a\x00": 1}}}, "body"),
    ({"billing_config": {"rates": {"standard": 1}}}, "billing_config.unit"),
    (
        {"billing_config": {"unit": "p", "calculation_method": "eval", "rates": {"a": 1}}},
        "billing_config.calculation_method",
    ),
    ({"billing_config": {"unit": "p", "rates": {"a": 1}, "currency": "XXX"}}, "billing_config.currency"),
    ({"billing_config": 5}, "billing_config"),
    ({"validation_schema": [1]}, "validation_schema"),
    ({"validation_schema": {"type": "nope"}}, "validation_schema"),
    ({"validation_schema": {"$ref": "http://example.com/x"}}, "validation_schema"),
    ({"validation_schema": {"$ref": "file:///etc/passwd"}}, "validation_schema"),
    ({"validation_schema": {"pattern": "(?=x)"}}, "validation_schema"),
    ({"validation_schema": {"title": "\x00"}}, "body"),
    ({"validation_schema": {"minimum": 10**40}}, "body"),
    ({"validation_schema": doubling(30)}, "validation_schema"),
    ({"validation_schema": {"properties": {"a": {"$ref": "#"}}}}, "validation_schema"),
    ({"validation_schema": deep(50)}, "body"),
]


async def test_a_bad_registration_is_refused_with_its_field_and_changes_nothing(
    front: Front, database: Database, subtests: pytest.Subtests
) -> None:
    version = await RegistryStore(database).version()
    for changes, field in BAD_REGISTRATIONS:
        with subtests.test(str(changes)[:80]):
            answer = await front.send("/services", json.dumps(SERVICE | changes).encode())
            problem = problem_of(answer, 422, "invalid_request")
            assert problem["errors"][0]["field"] == field
            assert problem["errors"][0]["message"]
            assert await RegistryStore(database).version() == version


async def test_a_body_that_is_no_registration_is_malformed(front: Front) -> None:
    for content in (b"", b"[]", b"5", b"{}", b"null", b"[" * 100_000, b"\xff"):
        problem_of(await front.send("/services", content), 422, "invalid_request")


async def test_a_registration_has_a_size_limit(front: Front) -> None:
    problem_of(await front.send("/services", b" " * 300_000), 413, "payload_too_large")


def test_schemas_with_references_of_their_own_are_usable_and_endless_ones_are_not() -> None:
    find_errors = compile_schema({"$defs": {"a/b": {"type": "integer"}}, "properties": {"x": {"$ref": "#/$defs/a~1b"}}})
    assert [error.message for error in find_errors({"x": "1"})]
    assert not list(find_errors({"x": 1}))
    compile_schema(doubling(8))
    for schema in (
        doubling(12),
        deep(20) | {"$dynamicRef": "#x"},
        {"$ref": "#"},
        {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"},
        {"$ref": "#/$defs/none"},
        {"properties": {"a": {"$id": "other", "$ref": "#/x"}}},
    ):
        with pytest.raises(InvalidRequest):
            compile_schema(schema)


async def test_a_disabled_type_is_not_taken(front: Front, pool: asyncpg.Pool) -> None:
    assert (await front.send("/services", SERVICE)).status_code == 201
    await pool.execute("UPDATE service_types SET is_enabled = false WHERE tenant = $1", front.tenant.scope.number)
    await pool.execute("UPDATE change_counters SET value = value + 1 WHERE name = 'registry'")
    await front.app.state.resources.registry.refresh()
    (item,) = problem_of(await front.send("/events", EVENT), 422, "invalid_events")["errors"]
    assert item["code"] == "service_type_disabled"

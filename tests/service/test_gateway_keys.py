"""Who may send: keys that work and keys that do not, tenants and customers stated everywhere they can be, scopes."""

from datetime import UTC, datetime, timedelta

import asyncpg

from shared.security.api_keys import generate_api_key
from tests.conftest import MakeTenant, add_key
from tests.support.gateway import Front, problem_of
from tests.support.pipeline import llm_event

EVENT = llm_event("e-1")


async def test_nobody_is_let_in_without_a_key(front: Front) -> None:
    nothing: tuple[dict[str, str], ...] = (
        {},
        {"X-API-Key": ""},
        {"Authorization": ""},
        {"Authorization": "Bearer"},
        {"Authorization": "Basic dTpw"},
    )
    for headers in nothing:
        for method, path in (("POST", "events"), ("POST", "events/batch"), ("POST", "services"), ("GET", "services")):
            answer = await front.client.request(method, f"/api/v1/{path}", headers=headers)
            problem_of(answer, 401, "unauthenticated")
            assert answer.headers["www-authenticate"].startswith("Bearer")
    assert await front.queue_length() == 0


async def test_a_key_that_does_not_work_is_refused_and_never_repeated(front: Front, pool: asyncpg.Pool) -> None:
    number = front.tenant.scope.number
    yesterday = datetime.now(UTC) - timedelta(days=1)
    typo = front.tenant.key[:-1] + ("0" if front.tenant.key[-1] != "0" else "1")
    refused = [
        "nonsense",
        "é",
        "x" * 5000,
        typo,
        generate_api_key("test"),
        await add_key(pool, tenant=number, scopes=["ingest"], is_enabled=False),
        await add_key(pool, tenant=number, scopes=["ingest"], expires_at=yesterday),
    ]
    for key in refused:
        answer = await front.send("/events", EVENT, headers={"X-API-Key": key.encode("latin-1")})  # type: ignore[dict-item]
        problem_of(answer, 401, "invalid_api_key")
        assert key not in answer.text
    assert await front.queue_length() == 0


async def test_a_key_stops_working_when_it_is_disabled_expires_or_its_tenant_is_suspended(
    front: Front, pool: asyncpg.Pool
) -> None:
    number = front.tenant.scope.number
    statements = (
        "UPDATE api_keys SET is_enabled = false WHERE tenant = $1",
        "UPDATE api_keys SET is_enabled = true, expires_at = now() WHERE tenant = $1",
        "UPDATE api_keys SET expires_at = NULL WHERE tenant = $1",
        "UPDATE tenants SET is_active = false WHERE number = $1",
    )
    statuses = []
    for statement in statements:
        await pool.execute(statement, number)
        statuses.append((await front.send("/events", EVENT)).status_code)
    assert statuses == [401, 401, 202, 401]
    assert await front.queue_length() == 1


async def test_the_key_may_come_as_a_bearer_token(front: Front) -> None:
    for authorization in (f"Bearer {front.tenant.key}", f"bearer  {front.tenant.key} "):
        answer = await front.client.post("/api/v1/events", json=EVENT, headers={"Authorization": authorization})
        assert answer.status_code == 202
    assert await front.queue_length() == 2


async def test_a_tenant_stated_anywhere_must_be_the_tenant_of_the_key(front: Front, make_tenant: MakeTenant) -> None:
    own, other = front.tenant.tenant_id, (await make_tenant()).tenant_id
    for tenant_id, status in ((own, 202), (other, 403), ("no-such-tenant", 403), ("", 403)):
        answers = [
            await front.send("/events", EVENT, headers={"X-Tenant-ID": tenant_id}),
            await front.send(f"/events?tenant_id={tenant_id}", EVENT),
            await front.send("/events", EVENT | {"tenant_id": tenant_id}),
            await front.send("/events/batch", [EVENT | {"tenant_id": tenant_id}]),
            await front.send("/events/batch", {"tenant_id": tenant_id, "events": [EVENT]}),
        ]
        assert [answer.status_code for answer in answers] == [status] * 5, tenant_id
        if status == 403:
            for answer in answers:
                problem_of(answer, 403, "tenant_mismatch")
    assert {envelope.tenant_id for envelope in await front.envelopes()} == {own}
    assert await front.queue_length() == 5


async def test_two_stated_tenants_must_both_match(front: Front, make_tenant: MakeTenant) -> None:
    own, other = front.tenant.tenant_id, (await make_tenant()).tenant_id
    problem_of(await front.send(f"/events?tenant_id={own}&tenant_id={other}", EVENT), 403, "tenant_mismatch")
    problem_of(
        await front.send(f"/events?tenant_id={own}", EVENT, headers={"X-Tenant-ID": other}), 403, "tenant_mismatch"
    )
    assert await front.queue_length() == 0


async def test_an_endpoint_needs_its_scope(front: Front, pool: asyncpg.Pool) -> None:
    number = front.tenant.scope.number
    body = {"service_type": "mine", "service_name": "Mine"}
    for scopes, expected in (
        (["read", "admin"], [403, 201, 200]),
        (["ingest"], [202, 403, 403]),
        (["llm"], [403, 403, 403]),
    ):
        key = {"X-API-Key": await add_key(pool, tenant=number, scopes=scopes)}
        answers = [
            await front.send("/events", EVENT, headers=key),
            await front.send("/services", body, headers=key),
            await front.client.get("/api/v1/services", headers=key),
        ]
        assert [answer.status_code for answer in answers] == expected
        for answer in answers:
            if answer.status_code == 403:
                assert "lacks the scope" in problem_of(answer, 403, "missing_scope")["detail"]
    assert await front.queue_length() == 1


async def test_a_customers_key_sends_for_that_customer_only(front: Front, pool: asyncpg.Pool) -> None:
    key = {"X-API-Key": await add_key(pool, tenant=front.tenant.scope.number, scopes=["ingest"], customer_id="acme")}
    for event in (EVENT, EVENT | {"customer_id": "acme"}, EVENT | {"team_id": "acme"}):
        assert (await front.send("/events", event, headers=key)).status_code == 202
    problem_of(await front.send("/events", EVENT | {"customer_id": "other"}, headers=key), 403, "customer_mismatch")
    problem_of(await front.send("/events", EVENT, headers=key | {"X-Customer-ID": "other"}), 403, "customer_mismatch")
    mixed = await front.send("/events/batch", [EVENT, EVENT | {"customer_id": "other"}], headers=key)
    assert (mixed.status_code, mixed.json()["failed_events"][0]["code"]) == (202, "customer_mismatch")
    assert [event.customer_id for event in await front.events()] == ["acme"] * 4


async def test_an_operators_key_must_name_one_tenant_that_exists(
    front: Front, pool: asyncpg.Pool, make_tenant: MakeTenant
) -> None:
    key = {"X-API-Key": await add_key(pool, tenant=None, scopes=["operator"])}
    other = await make_tenant()
    for tenant in (front.tenant, other):
        assert (await front.send(f"/events?tenant_id={tenant.tenant_id}", EVENT, headers=key)).status_code == 202
        assert (await front.send("/events", EVENT, headers=key | {"X-Tenant-ID": tenant.tenant_id})).status_code == 202
    problem_of(await front.send("/events", EVENT, headers=key), 403, "tenant_mismatch")
    problem_of(
        await front.send(f"/events?tenant_id={other.tenant_id}&tenant_id=x", EVENT, headers=key), 403, "tenant_mismatch"
    )
    problem_of(await front.send("/events?tenant_id=no-such-tenant", EVENT, headers=key), 404, "not_found")
    problem_of(await front.send("/events?tenant_id=%00", EVENT, headers=key), 404, "not_found")
    problem_of(
        await front.send(f"/events?tenant_id={other.tenant_id}", EVENT | {"tenant_id": "x"}, headers=key),
        403,
        "tenant_mismatch",
    )
    numbers = [envelope.tenant for envelope in await front.envelopes()]
    assert numbers == [front.tenant.scope.number] * 2 + [other.scope.number] * 2

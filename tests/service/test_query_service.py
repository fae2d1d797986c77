"""The query service: every answer is what the events themselves say, whatever is folded, and only for who may ask."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import asyncpg
import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.query_service.app import create_app
from services.query_service.dependencies import Resources
from services.query_service.settings import QueryServiceSettings
from shared.contracts import exact_json
from shared.storage.rollups import RollupFolder
from tests.conftest import SECRET, MakeTenant, Tenant, add_key
from tests.support.rollup_oracle import (
    Fact,
    counts,
    counts_and_metrics,
    grouped,
    local_period,
    store,
    utc,
)

ENDPOINTS = [
    "/api/v1/usage",
    "/api/v1/usage/aggregate",
    "/api/v1/usage/by-service",
    "/api/v1/usage/costs",
    "/api/v1/analytics/trends",
    "/api/v1/analytics/top-users",
]
# clocks change in it: Lord Howe on 5 October, Berlin on the 26th, Havana (at midnight) and St. John's on 2 November
BEGINNING = datetime(2025, 9, 29, tzinfo=UTC)
SECONDS = 39 * 86_400
OCTOBER = {"start_date": "2025-10-01", "end_date": "2025-10-31"}
ZONES = [
    "UTC",
    "Asia/Kolkata",
    "Asia/Kathmandu",
    "America/St_Johns",
    "Europe/Berlin",
    "America/Havana",
    "Australia/Lord_Howe",
]
NOW = utc(2025, 11, 20, 12)


@pytest.fixture
async def client(database_url: str) -> AsyncIterator[httpx2.AsyncClient]:
    service = QueryServiceSettings(database_url=database_url, api_secret_key=SECRET)
    resources = Resources.open(service, clock=lambda: NOW)
    transport = httpx2.ASGITransport(app=create_app(service, resources), raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://query") as client:
        yield client
    await resources.close()


async def ask(client: httpx2.AsyncClient, tenant: Tenant, path: str, **parameters: Any) -> Any:
    """The body of a good answer, its numbers exact."""
    path = path if path.startswith("/") else f"/api/v1/{path}"
    answer = await client.get(path, params=parameters, headers={"X-API-Key": tenant.key})
    assert answer.status_code == 200, answer.text
    return exact_json.loads(answer.content)


async def refusal(client: httpx2.AsyncClient, tenant: Tenant, path: str, **parameters: Any) -> tuple[int, str, Any]:
    answer = await client.get(f"/api/v1/{path}", params=parameters, headers={"X-API-Key": tenant.key})
    body = answer.json()
    return answer.status_code, body["code"], [(item["field"], item["code"]) for item in body["errors"]]


async def fold(pool: asyncpg.Pool) -> None:
    while (await RollupFolder(pool).fold()).rows:
        pass


def without_averages(answer: dict[str, Any]) -> dict[str, Any]:
    """Checks that each average times its count is the sum, and leaves it out."""
    metrics = {}
    for name, metric in answer["metrics"].items():
        average = metric.pop("avg")
        assert abs(average * metric["count"] - metric["sum"]) <= metric["sum"] * Decimal("1e-18")
        metrics[name] = metric
    return {**answer, "metrics": metrics}


def only(answer: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: answer[name] for name in names}


COUNTS = tuple(counts([]))
COUNTS_AND_METRICS = (*COUNTS, "metrics")


# --- who may ask -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ENDPOINTS)
async def test_anonymous_is_refused(client: httpx2.AsyncClient, path: str) -> None:
    assert (await client.get(path)).status_code == 401
    assert (await client.get(path, headers={"X-API-Key": "ut_live_wrong_000000"})).status_code == 401


@pytest.mark.parametrize("path", ENDPOINTS)
async def test_another_tenant_is_refused(client: httpx2.AsyncClient, make_tenant: MakeTenant, path: str) -> None:
    mine, other = await make_tenant(), await make_tenant()
    answer = await client.get(path, params={"tenant_id": other.tenant_id}, headers={"X-API-Key": mine.key})
    assert (answer.status_code, answer.json()["code"]) == (403, "tenant_mismatch")
    answer = await client.get(path, headers={"X-API-Key": mine.key, "X-Tenant-ID": other.tenant_id})
    assert answer.status_code == 403
    assert (await client.get(path, params={"tenant_id": mine.tenant_id}, headers={"X-API-Key": mine.key})).is_success


@pytest.mark.parametrize("path", ENDPOINTS)
async def test_a_key_without_read_is_refused(client: httpx2.AsyncClient, make_tenant: MakeTenant, path: str) -> None:
    tenant = await make_tenant(scopes=("ingest",))
    answer = await client.get(path, headers={"X-API-Key": tenant.key})
    assert (answer.status_code, answer.json()["code"]) == (403, "missing_scope")


async def test_rows_of_another_tenant_never_appear(
    client: httpx2.AsyncClient, pool: asyncpg.Pool, make_tenant: MakeTenant
) -> None:
    mine, other = await make_tenant(), await make_tenant()
    await store(pool, other.scope, [Fact(1, utc(2025, 10, 5), user_id="secret", metrics={"input_tokens": 7})])
    for is_folded in (False, True):
        if is_folded:
            await fold(pool)
        for path in ENDPOINTS:
            for window in (OCTOBER, {"start_date": "2025-10-04T23:59:59Z", "end_date": "2025-10-05T00:00:01Z"}):
                answer = await ask(client, mine, path, **window)
                for name in ("total_count", "events", "users", "services", "total"):
                    assert not answer.get(name)
                assert not answer.get("totals", {}).get("event_count")
                assert "secret" not in str(answer)


async def test_an_operator_reads_the_tenant_it_names(
    client: httpx2.AsyncClient, pool: asyncpg.Pool, make_tenant: MakeTenant
) -> None:
    tenant = await make_tenant()
    await store(pool, tenant.scope, [Fact(1, utc(2025, 10, 5), cost=Decimal("0.5"), currency="USD")])
    operator = replace(tenant, key=await add_key(pool, tenant=None, scopes=["operator"]))
    answer = await ask(client, operator, "usage/costs", tenant_id=tenant.tenant_id, **OCTOBER)
    assert answer["totals"]["total_cost"] == Decimal("0.5")
    assert (await refusal(client, operator, "usage"))[0] == 403


async def test_a_customers_key_sees_that_customer_only(
    client: httpx2.AsyncClient, pool: asyncpg.Pool, make_tenant: MakeTenant
) -> None:
    tenant = await make_tenant()
    key = await add_key(pool, tenant=tenant.scope.number, scopes=["read", "costs:read"], customer_id="acme")
    acme = replace(tenant, key=key)
    at = utc(2025, 10, 5)
    facts = [Fact(1, at, customer_id="acme"), Fact(2, at, customer_id="other", user_id="spy")]
    await store(pool, tenant.scope, facts)
    for path in ENDPOINTS:
        assert "spy" not in str(await ask(client, acme, path, **OCTOBER))
    assert (await ask(client, acme, "usage", **OCTOBER))["total_count"] == 1
    assert (await ask(client, acme, "usage/aggregate", customer_id="acme", **OCTOBER))["totals"]["event_count"] == 1
    assert (await ask(client, tenant, "usage/aggregate", **OCTOBER))["totals"]["event_count"] == 2
    for path in ENDPOINTS:
        assert (await refusal(client, acme, path.removeprefix("/api/v1/"), customer_id="other"))[0] == 403
    header = {"X-API-Key": tenant.key, "X-Customer-ID": "other"}
    named = await client.get("/api/v1/usage", params=OCTOBER, headers=header)
    assert [event["customer_id"] for event in named.json()["events"]] == ["other"]


def keys_in(answer: Any) -> set[str]:
    if isinstance(answer, dict):
        return set(answer).union(*(keys_in(value) for value in answer.values()))
    return set().union(*(keys_in(item) for item in answer)) if isinstance(answer, list) else set()


async def test_costs_are_absent_without_their_scope(
    client: httpx2.AsyncClient, pool: asyncpg.Pool, make_tenant: MakeTenant
) -> None:
    tenant = await make_tenant(scopes=("read",))
    fact = Fact(1, utc(2025, 10, 5), cost=Decimal("0.000123"), currency="USD", metrics={"input_tokens": 7})
    await store(pool, tenant.scope, [fact])
    for path in ENDPOINTS:
        if path.endswith("/costs"):
            continue
        answer = await client.get(path, params=OCTOBER, headers={"X-API-Key": tenant.key})
        assert answer.status_code == 200
        assert "000123" not in answer.text
        assert not keys_in(answer.json()) & {"total_cost", "cost", "costs"}
        assert "charge" in keys_in(answer.json()) or path.endswith("/trends")
    for path, parameters in (
        ("usage/costs", {}),
        ("analytics/trends", {"metric": "cost"}),
        ("analytics/trends", {"metric": "total_cost"}),
        ("analytics/top-users", {"metric": "cost"}),
    ):
        status, code, _ = await refusal(client, tenant, path, **parameters)
        assert (status, code) == (403, "missing_scope")
    # the name the rollups keep costs under is nobody's metric
    assert (await refusal(client, tenant, "analytics/trends", metric="$cost"))[0] == 422


# --- what is answered ------------------------------------------------------------------------------------------------

moments = st.one_of(
    st.integers(0, SECONDS * 4 - 1).map(lambda quarter: BEGINNING + timedelta(milliseconds=quarter * 250)),
    st.integers(0, SECONDS // 900 - 1).map(lambda quarter: BEGINNING + timedelta(minutes=15) * quarter),
    st.integers(0, SECONDS // 3600 - 1).map(lambda hour: BEGINNING + timedelta(hours=hour)),
)
quantities = st.one_of(st.integers(0, 10**18), st.decimals(0, 1000, places=6).map(lambda value: value.normalize() + 0))
usage_of_models = st.fixed_dictionaries({}, optional={"input_tokens": quantities, "total_tokens": quantities})
usage_of_pages = st.fixed_dictionaries({"pages_processed": quantities}, optional={"latency_ms": quantities})
prices = st.one_of(
    st.just((None, "")),
    st.just((Decimal(0), "")),
    st.tuples(st.decimals(0, 10, places=9), st.sampled_from(["USD", "USD", "EUR"])),
)


@st.composite
def a_fact(draw: st.DrawFn) -> Fact:
    service_type, metrics = draw(
        st.one_of(
            st.tuples(st.just("llm_service"), usage_of_models),
            st.tuples(st.just("document_processor"), usage_of_pages),
            st.tuples(st.just("homemade"), usage_of_pages),
        )
    )
    cost, currency = draw(prices)
    return Fact(
        key=draw(st.integers(1, 2**128 - 1)),
        at=draw(moments),
        service_type=service_type,
        service_provider=draw(st.sampled_from(["openai", "anthropic"])),
        model=draw(st.sampled_from(["", "gpt-4"])),
        event_type=draw(st.sampled_from(["completion", "embedding"])),
        customer_id=draw(st.sampled_from(["", "acme", "globex"])),
        status=draw(st.sampled_from(["success", "success", "failed"])),
        user_id=draw(st.sampled_from(["ann", "bob", "Zoë"])),
        cost=cost,
        currency=currency,
        metrics=metrics,
        tags=tuple(draw(st.lists(st.sampled_from(["a", "b"]), unique=True))),
    )


several_facts = st.lists(a_fact(), min_size=1, max_size=30, unique_by=lambda fact: fact.key)
filters = st.fixed_dictionaries(
    {},
    optional={
        "service_provider": st.just("openai"),
        "model": st.sampled_from(["gpt-4", ""]),
        "customer_id": st.sampled_from(["acme", ""]),
        "status": st.just("failed"),
    },
)
user_filters = st.fixed_dictionaries({}, optional={"user_id": st.just("ann"), "tags": st.just(["a"])})
everything = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)


def matches(fact: Fact, wanted: dict[str, Any]) -> bool:
    return all(
        set(value) <= set(fact.tags) if name == "tags" else getattr(fact, name) == value
        for name, value in wanted.items()
    )


async def half_folded(pool: asyncpg.Pool, tenant: Tenant, facts: list[Fact], folded: int) -> None:
    if folded:
        await store(pool, tenant.scope, facts[:folded])
        await fold(pool)
    if facts[folded:]:
        await store(pool, tenant.scope, facts[folded:])


@everything
@given(
    facts=several_facts,
    folded=st.integers(0, 30),
    tenant_zone=st.sampled_from(ZONES),
    zone=st.sampled_from(ZONES),
    edges=st.tuples(moments, moments).filter(lambda pair: pair[0] != pair[1]).map(sorted),
    wanted=filters,
    more=user_filters,
    period=st.sampled_from(["hour", "day", "week", "month"]),
)
async def test_every_answer_equals_what_the_events_say(
    client: httpx2.AsyncClient,
    pool: asyncpg.Pool,
    make_tenant: MakeTenant,
    facts: list[Fact],
    folded: int,
    tenant_zone: str,
    zone: str,
    edges: list[datetime],
    wanted: dict[str, Any],
    more: dict[str, Any],
    period: str,
) -> None:
    tenant = await make_tenant(timezone=tenant_zone)
    await half_folded(pool, tenant, facts, folded)
    start, end = edges
    window = {"start_date": start.isoformat(), "end_date": end.isoformat(), "timezone": zone}
    inside = [fact for fact in facts if start <= fact.at < end and matches(fact, wanted)]
    mine = [fact for fact in inside if matches(fact, more)]

    # buckets: those with events are the local periods, the others are empty, and they tile the window
    answer = await ask(client, tenant, "usage/aggregate", period=period, **window, **wanted, **more)
    by_period = grouped(mine, lambda fact: local_period(fact.at, ZoneInfo(zone), period))
    full = [bucket for bucket in answer["buckets"] if bucket["event_count"]]
    if not (period == "hour" and zone == "Australia/Lord_Howe"):
        assert len(full) == len(by_period)
    for bucket in full:
        lines = [datetime.fromisoformat(bucket[name]) for name in ("start", "end")]
        there = [fact for fact in mine if lines[0] <= fact.at < lines[1]]
        assert only(without_averages(bucket), *COUNTS_AND_METRICS) == counts_and_metrics(there)
    ends = [start.isoformat(), *(bucket["end"] for bucket in answer["buckets"])]
    starts = [*(bucket["start"] for bucket in answer["buckets"]), end.isoformat()]
    assert [datetime.fromisoformat(text) for text in ends] == [datetime.fromisoformat(text) for text in starts]
    assert without_averages(answer["totals"]) == counts_and_metrics(mine)

    # groups
    answer = await ask(client, tenant, "usage/by-service", **window, **wanted, **more)
    by_service = grouped(mine, lambda fact: (fact.service_type, fact.service_provider))
    assert len(answer["services"]) == len(by_service)
    for service in answer["services"]:
        there = by_service[service["service_type"], service["service_provider"]]
        assert only(without_averages(service), *COUNTS_AND_METRICS) == counts_and_metrics(there)
        assert service["models"] == sorted({fact.model for fact in there} - {""})
    assert without_averages(answer["totals"]) == counts_and_metrics(mine)

    for group_by in ("customer_id", "model", "day"):
        answer = await ask(client, tenant, "usage/costs", group_by=group_by, **window, **wanted, **more)
        by_group = grouped(
            mine,
            lambda fact, group_by=group_by: (
                fact.at.astimezone(ZoneInfo(zone)).date().isoformat() if group_by == "day" else getattr(fact, group_by)
            ),
        )
        found = {group["key"]: only(group, *COUNTS) for group in answer["groups"] if group["event_count"]}
        assert found == {key: counts(there) for key, there in by_group.items()}
        assert answer["totals"] == counts(mine)

    # trends: without a point left out
    for metric, value in (
        ("event_count", lambda fact: 1),
        ("error_count", lambda fact: int(fact.status == "failed")),
        ("total_tokens", lambda fact: fact.metrics.get("total_tokens", 0)),
        ("cost", lambda fact: fact.cost if fact.currency == "EUR" else 0),
    ):
        answer = await ask(
            client, tenant, "analytics/trends", metric=metric, period=period, currency="EUR", **window, **wanted, **more
        )
        for point in answer["data_points"]:
            lines = [datetime.fromisoformat(point[name]) for name in ("start", "end")]
            assert point["value"] == sum(value(fact) for fact in mine if lines[0] <= fact.at < lines[1])
        assert answer["total"] == sum(map(value, mine))

    # users
    for metric, rank in (
        ("event_count", lambda same: len(same)),
        ("error_count", lambda same: counts(same)["error_count"]),
        ("quantity", lambda same: sum(fact.quantity for fact in same)),
        ("cost", lambda same: sum(fact.cost for fact in same if fact.currency == "USD")),
    ):
        answer = await ask(
            client, tenant, "analytics/top-users", metric=metric, limit=2, currency="USD", **window, **wanted
        )
        by_user = grouped(inside, lambda fact: fact.user_id)
        best = sorted((user for user in by_user if rank(by_user[user])), key=lambda user: (-rank(by_user[user]), user))
        assert [user["user_id"] for user in answer["users"]] == best[:2]
        for user in answer["users"]:
            there = by_user[user["user_id"]]
            assert only(user, *COUNTS) == counts(there)
            assert user["quantity"] == sum(fact.quantity for fact in there)

    # the events themselves
    answer = await ask(client, tenant, "usage", limit=1000, **window, **wanted, **more)
    newest_first = sorted(mine, key=lambda fact: (fact.at, fact.key), reverse=True)
    assert [datetime.fromisoformat(event["timestamp"]) for event in answer["events"]] == [
        fact.at for fact in newest_first
    ]
    assert [event["metrics"] for event in answer["events"]] == [fact.metrics for fact in newest_first]
    assert answer["total_count"] == len(mine)


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("tenant_zone", ["UTC", "Asia/Kathmandu"])
async def test_days_sum_to_the_month_and_weeks_to_the_window(
    client: httpx2.AsyncClient, pool: asyncpg.Pool, make_tenant: MakeTenant, zone: str, tenant_zone: str
) -> None:
    tenant = await make_tenant(timezone=tenant_zone)
    step = timedelta(hours=1, minutes=17, seconds=3)
    facts = [
        Fact(i + 1, BEGINNING + i * step, cost=Decimal(i) / 8, currency="USD", metrics={"input_tokens": i})
        for i in range(700)
    ]
    await half_folded(pool, tenant, facts, 500)
    local = ZoneInfo(zone)
    mine = [fact for fact in facts if fact.at.astimezone(local).month == 10]
    for period in ("hour", "day", "week", "month"):
        answer = await ask(client, tenant, "usage/aggregate", period=period, timezone=zone, **OCTOBER)
        assert without_averages(answer["totals"]) == counts_and_metrics(mine)
    assert len(answer["buckets"]) == 1


async def test_a_fold_changes_no_answer(
    client: httpx2.AsyncClient, pool: asyncpg.Pool, make_tenant: MakeTenant
) -> None:
    tenant = await make_tenant(timezone="Asia/Kolkata")
    facts = [Fact(i + 1, BEGINNING + i * timedelta(hours=2), metrics={"input_tokens": i}) for i in range(300)]
    await half_folded(pool, tenant, facts, 100)
    before = [await ask(client, tenant, path, **OCTOBER) for path in ENDPOINTS]
    await fold(pool)
    assert [await ask(client, tenant, path, **OCTOBER) for path in ENDPOINTS] == before


async def test_an_answer_during_folds_neither_doubles_nor_loses(
    client: httpx2.AsyncClient, pool: asyncpg.Pool, make_tenant: MakeTenant
) -> None:
    tenant = await make_tenant()
    facts = [Fact(i + 1, BEGINNING + i * timedelta(minutes=40), metrics={"input_tokens": 1}) for i in range(900)]
    await store(pool, tenant.scope, facts)
    is_done = False

    async def fold_slowly() -> None:
        nonlocal is_done
        folder = RollupFolder(pool, rows_per_fold=40)
        while (await folder.fold()).rows:
            pass
        is_done = True

    folding = asyncio.create_task(fold_slowly())
    window = {"start_date": "2025-09-28T00:00:07Z", "end_date": "2025-11-08T00:03:00Z"}
    asked = 0
    while not is_done:
        answer = await ask(client, tenant, "usage/aggregate", period="week", **window)
        assert answer["totals"]["event_count"] == 900
        assert answer["totals"]["metrics"]["input_tokens"]["sum"] == 900
        users = (await ask(client, tenant, "analytics/top-users", **window))["users"]
        assert [user["event_count"] for user in users] == [900]
        assert (await ask(client, tenant, "usage", limit=1, **window))["total_count"] == 900
        asked += 1
    await folding
    assert asked > 3


async def test_pages_hold_every_event_once(
    client: httpx2.AsyncClient, pool: asyncpg.Pool, make_tenant: MakeTenant
) -> None:
    """Also where many events have the same time."""
    tenant = await make_tenant()
    await store(pool, tenant.scope, [Fact(i, utc(2025, 10, 5 + i // 9), event_id=f"event-{i}") for i in range(1, 24)])
    everything = [event["event_id"] for event in (await ask(client, tenant, "usage", **OCTOBER))["events"]]
    assert len(everything) == 23
    by_cursor: list[str] = []
    page: dict[str, Any] = {"next_cursor": None, "has_more": True}
    while page["has_more"]:
        cursor = {"cursor": page["next_cursor"]} if page["next_cursor"] else {}
        page = await ask(client, tenant, "usage", limit=4, **cursor, **OCTOBER)
        assert page["total_count"] == 23
        by_cursor += [event["event_id"] for event in page["events"]]
    by_offset: list[str] = []
    for offset in range(0, 24, 5):
        page = await ask(client, tenant, "usage", limit=5, offset=offset, **OCTOBER)
        by_offset += [event["event_id"] for event in page["events"]]
    assert by_cursor == by_offset == everything
    assert page["next_cursor"] is None

    # a cursor taken to another window does not lead out of it
    cursor = (await ask(client, tenant, "usage", limit=1, **OCTOBER))["next_cursor"]
    page = await ask(client, tenant, "usage", cursor=cursor, start_date="2025-10-01", end_date="2025-10-05")
    assert [event["timestamp"][:10] for event in page["events"]] == ["2025-10-05"] * 8


async def test_an_event_is_shown_as_it_was_sent(
    client: httpx2.AsyncClient, pool: asyncpg.Pool, make_tenant: MakeTenant
) -> None:
    tenant = await make_tenant()
    fact = Fact(
        5,
        utc(2025, 10, 5, 1, 2, 3, 4),
        cost=Decimal("0.0000234"),
        currency="USD",
        metrics={"input_tokens": 10**18, "score": Decimal("0.000000000000000001")},
        tags=("one", "two"),
        metadata={"temperature": 0, "nested": {"a": [None, True]}},
    )
    await store(pool, tenant.scope, [fact, Fact(6, utc(2025, 10, 4))])
    text = (await client.get("/api/v1/usage", params=OCTOBER, headers={"X-API-Key": tenant.key})).text
    for exact in ('"total_cost":0.0000234,', "0.000000000000000001", "1000000000000000000"):
        assert exact in text
    priced, unpriced = exact_json.loads(text)["events"]
    assert priced["event_id"] == "00000000-0000-0000-0000-000000000005"
    assert priced["timestamp"] == "2025-10-05T01:02:03.000004Z"
    assert priced["tenant_id"] == tenant.tenant_id
    assert priced["metadata"] == {"model": "gpt-4", "temperature": 0, "nested": {"a": [None, True]}}
    assert priced["tags"] == ["one", "two"]
    assert priced["billing_info"] == {
        "total_cost": Decimal("0.0000234"),
        "is_priced": True,
        "currency": "USD",
        "charge": None,
    }
    assert unpriced["billing_info"] == {"total_cost": None, "is_priced": False, "currency": None, "charge": None}
    assert "billing_info" not in (await ask(client, tenant, "usage", include_billing=False, **OCTOBER))["events"][0]


async def test_currencies_are_never_added(
    client: httpx2.AsyncClient, pool: asyncpg.Pool, make_tenant: MakeTenant
) -> None:
    tenant = await make_tenant()
    at = utc(2025, 10, 5)
    facts = [
        Fact(1, at, cost=Decimal(5), currency="EUR", user_id="ann"),
        Fact(2, at, cost=Decimal(1), currency="USD", user_id="bob"),
        Fact(3, at, cost=Decimal(1), currency="USD", user_id="bob"),
    ]
    await store(pool, tenant.scope, facts)
    totals = (await ask(client, tenant, "usage/costs", **OCTOBER))["totals"]
    assert only(totals, "total_cost", "currency", "costs") == {
        "total_cost": None,
        "currency": None,
        "costs": [{"currency": "EUR", "total_cost": 5}, {"currency": "USD", "total_cost": 2}],
    }
    trend = await ask(client, tenant, "analytics/trends", metric="cost", **OCTOBER)
    assert (trend["currency"], trend["total"]) == ("USD", 2)  # what most events are priced in
    top = await ask(client, tenant, "analytics/top-users", metric="cost", **OCTOBER)
    assert (top["ranked_in"], [user["user_id"] for user in top["users"]]) == ("USD", ["bob"])
    top = await ask(client, tenant, "analytics/top-users", metric="cost", currency="EUR", **OCTOBER)
    assert (top["ranked_in"], [user["user_id"] for user in top["users"]]) == ("EUR", ["ann"])


async def test_a_registered_quantity_counts_at_the_edges_too(
    client: httpx2.AsyncClient, pool: asyncpg.Pool, make_tenant: MakeTenant
) -> None:
    tenant = await make_tenant()
    await pool.execute(
        "INSERT INTO service_types (tenant, service_type, version, service_name, billing_config)"
        " VALUES ($1, 'homemade', 1, 'Homemade', '{\"unit\": \"predictions\"}')",
        tenant.scope.number,
    )
    fact = Fact(1, utc(2025, 10, 5, 0, 1), service_type="homemade", metrics={"predictions": 9, "total_tokens": 1})
    await store(pool, tenant.scope, [fact])
    window = {"start_date": "2025-10-05T00:00:59Z", "end_date": "2025-10-05T00:01:01Z"}
    users = (await ask(client, tenant, "analytics/top-users", metric="quantity", **window))["users"]
    assert [user["quantity"] for user in users] == [9]


@pytest.mark.parametrize(
    ("counts_by_day", "expected"),
    [
        ([1, 2, 3, 4], ("up", 4, Decimal("133.33"))),
        ([4, 9, 1], ("down", -3, -75)),
        ([2, 2], ("flat", 0, 0)),
        ([0, 3], ("up", 3, None)),
        ([5], ("flat", 0, None)),
    ],
)
async def test_a_trend_compares_the_second_half_with_the_first(
    client: httpx2.AsyncClient,
    pool: asyncpg.Pool,
    make_tenant: MakeTenant,
    counts_by_day: list[int],
    expected: tuple[str, int, Decimal | None],
) -> None:
    tenant = await make_tenant()
    days = [day for day, count in enumerate(counts_by_day) for _ in range(count)]
    await store(pool, tenant.scope, [Fact(i + 1, utc(2025, 10, 5 + day, 3)) for i, day in enumerate(days)])
    last = f"2025-10-{4 + len(counts_by_day):02}"
    answer = await ask(client, tenant, "analytics/trends", start_date="2025-10-05", end_date=last)
    assert [point["value"] for point in answer["data_points"]] == counts_by_day
    assert (answer["direction"], answer["change"], answer["change_percent"]) == expected


async def test_a_period_that_is_not_over_says_nothing_of_the_trend(
    client: httpx2.AsyncClient, make_tenant: MakeTenant
) -> None:
    answer = await ask(client, await make_tenant(), "analytics/trends")
    assert answer["data_points"][-1]["end"] == "2025-11-21T00:00:00Z"
    assert len(answer["data_points"]) == 30


# --- which window ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stated", "start", "end"),
    [
        ({}, "2025-10-21T22:00:00Z", "2025-11-20T23:00:00Z"),
        ({"start_date": "2025-10-01", "end_date": "2025-10-01"}, "2025-09-30T22:00:00Z", "2025-10-01T22:00:00Z"),
        ({"start_date": "2025-10-01", "timezone": "UTC"}, "2025-10-01T00:00:00Z", "2025-11-21T00:00:00Z"),
        ({"end_date": "2025-10-31T00:00:00Z"}, "2025-10-01T22:00:00Z", "2025-10-31T00:00:00Z"),
        (
            {"start_date": "2025-10-01T08:30", "end_date": "2025-10-01T09:00+05:30", "timezone": "Asia/Kathmandu"},
            "2025-10-01T02:45:00Z",
            "2025-10-01T03:30:00Z",
        ),
        # a `+` that was not escaped
        (
            {"start_date": "2025-10-01T02:00:00 02:00", "end_date": "2025-10-02 00:00"},
            "2025-10-01T00:00:00Z",
            "2025-10-01T22:00:00Z",
        ),
    ],
)
async def test_dates_are_read_in_the_zone_that_was_asked(
    client: httpx2.AsyncClient, make_tenant: MakeTenant, stated: dict[str, str], start: str, end: str
) -> None:
    tenant = await make_tenant(timezone="Europe/Berlin")
    for path in ENDPOINTS:
        answer = await ask(client, tenant, path, **stated)
        assert (answer["start_date"], answer["end_date"]) == (start, end)
        assert answer["timezone"] == stated.get("timezone", "Europe/Berlin")


@pytest.mark.parametrize(
    ("path", "stated", "errors"),
    [
        ("usage", {"timezone": "Mars/Olympus"}, [("timezone", "unknown_timezone")]),
        ("usage", {"timezone": "../etc/passwd"}, [("timezone", "unknown_timezone")]),
        ("usage", {"start_date": "yesterday"}, [("start_date", "invalid_instant")]),
        ("usage", {"end_date": "9999-12-31"}, [("end_date", "invalid_instant")]),
        ("usage", {"end_date": "0001-01-01T00:00:00+14:00"}, [("end_date", "out_of_range")]),
        ("usage", {"start_date": "2025-10-02", "end_date": "2025-10-01"}, [("end_date", "reversed_window")]),
        ("usage", {"start_date": "2019-10-02", "end_date": "2025-10-01"}, [("start_date", "window_too_long")]),
        ("analytics/trends", {"start_date": "2023-10-02", "period": "hour"}, [("period", "too_many_buckets")]),
        ("usage", {"limit": "1001"}, [("limit", "less_than_equal")]),
        ("usage", {"offset": "-1"}, [("offset", "greater_than_equal")]),
        ("usage", {"cursor": "nonsense"}, [("cursor", "invalid_cursor")]),
        ("usage", {"cursor": "é"}, [("cursor", "invalid_cursor")]),
        ("usage", {"cursor": "AAAA", "offset": "2"}, [("offset", "ambiguous_page")]),
        ("usage", {"user": "ann"}, [("user", "extra_forbidden")]),
        ("usage", {"user_id": "a\x00b"}, [("user_id", "value_error")]),
        ("usage/aggregate", {"period": "year"}, [("period", "enum")]),
        ("usage/costs", {"group_by": "user_id"}, [("group_by", "literal_error")]),
        ("analytics/top-users", {"metric": "beauty"}, [("metric", "enum")]),
        ("analytics/top-users", {"limit": "0"}, [("limit", "greater_than_equal")]),
    ],
)
async def test_what_cannot_be_answered_is_said(
    client: httpx2.AsyncClient,
    make_tenant: MakeTenant,
    path: str,
    stated: dict[str, str],
    errors: list[tuple[str, str]],
) -> None:
    status, _, found = await refusal(client, await make_tenant(), path, **stated)
    assert (status, found) == (422, errors)


# --- the service itself ----------------------------------------------------------------------------------------------


async def test_it_is_ready_while_the_database_answers(client: httpx2.AsyncClient, database_url: str) -> None:
    assert (await client.get("/readyz")).status_code == 200
    assert (await client.get("/health")).json()["checks"] == {"database": "up"}
    assert (await client.get("/openapi.json")).is_success
    nowhere = QueryServiceSettings(database_url="postgresql://u:p@127.0.0.1:1/none", api_secret_key=SECRET)
    app = create_app(nowhere)
    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
    async with app.router.lifespan_context(app), httpx2.AsyncClient(transport=transport, base_url="http://q") as other:
        assert (await other.get("/readyz")).status_code == 503
        assert (await other.get("/health")).status_code == 200
        key = "ut_test_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
        assert (await other.get("/api/v1/usage", headers={"X-API-Key": key})).status_code == 401

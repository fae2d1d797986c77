"""A real trace of 8,819 LLM calls through the platform, whose processes are killed on the way: exact all the same."""

import asyncio
import csv
import json
import os
import random
import signal
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import asyncpg
import httpx2
import pytest
import redis.asyncio as redis

from client_sdk import UsageTracker
from shared.queue.keys import CLAIMS, QUEUE
from shared.storage.database import asyncpg_url
from tests.conftest import add_key
from tests.support.stack import Stack, running_stack

TRACE = Path(__file__).parent.parent / "data" / "AzureLLMInferenceTrace_code.csv"
MODEL = "gpt-4"
INPUT_RATE, OUTPUT_RATE = Decimal("0.00003"), Decimal("0.00006")  # dollars per token, from the provider's price page
DAY = {"start_date": "2023-11-16T00:00:00Z", "end_date": "2023-11-17T00:00:00Z"}


class Row:
    """One call of the trace."""

    def __init__(self, number: int, row: dict[str, str]) -> None:
        self.event_id = f"azure-{number:05d}"
        self.at = datetime.fromisoformat(row["TIMESTAMP"][:26]).replace(tzinfo=UTC)
        self.input_tokens = int(row["ContextTokens"])
        self.output_tokens = int(row["GeneratedTokens"])

    def as_event(self, *, with_timestamp: bool) -> dict[str, Any]:
        event = {
            "event_id": self.event_id,
            "user_id": "trace",
            "service_type": "llm_service",
            "event_type": "completion",
            "model": MODEL,
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
        }
        return {**event, "timestamp": self.at.isoformat()} if with_timestamp else event


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    with TRACE.open(newline="") as file:
        return [Row(number, row) for number, row in enumerate(csv.DictReader(file))]


async def test_the_trace_is_counted_exactly_through_kills_and_sent_again(
    rows: list[Row], make_database: Callable[[], str], redis_url: str, tmp_path: Path
) -> None:
    database_url = await asyncio.to_thread(make_database)
    client = redis.Redis.from_url(redis_url)
    await client.flushall()
    pool = await asyncpg.create_pool(asyncpg_url(database_url), min_size=1, max_size=2)
    tenant = await pool.fetchval("INSERT INTO tenants (tenant_id, name) VALUES ('azure', 'Azure') RETURNING number")
    key = await add_key(pool, tenant=tenant, scopes=["ingest", "read", "costs:read"])
    with running_stack(tmp_path, database_url=database_url, redis_url=redis_url, EVENT_RETENTION_DAYS="36500") as stack:
        killer = asyncio.create_task(_kill_each_service_once(stack))
        await _send_with_the_sdk(stack, key, rows)
        await killer
        await _until_settled(client, stack, key, expected=len(rows))
        first = await _reports(stack, key)
        _assert_exact(first, rows)
        await _assert_per_minute(pool, tenant, rows)

        await _send_again(stack, key, rows)
        await _until_settled(client, stack, key, expected=len(rows))
        assert await _reports(stack, key) == first
        assert await pool.fetchval("SELECT count(*) FROM usage_events") == len(rows)
        assert await pool.fetchval("SELECT count(*) FROM event_conflicts") == 0
        assert await pool.fetchval("SELECT count(*) FROM dead_letter_events") == 0
        assert await pool.fetchval("SELECT sum(duplicate_count) FROM ingest_outcomes") >= len(rows)
    await pool.close()
    await client.aclose()


async def _send_with_the_sdk(stack: Stack, key: str, rows: Sequence[Row]) -> None:
    """Slowly enough for every kill to fall into it."""
    async with UsageTracker(
        key, stack.gateways[0], batch_size=100, backoff_initial_seconds=0.05, max_retries=100, close_timeout_seconds=60
    ) as tracker:
        for number, row in enumerate(rows):
            await tracker.track_llm(
                user_id="trace",
                model=MODEL,
                input_tokens=row.input_tokens,
                output_tokens=row.output_tokens,
                timestamp=row.at,
                event_id=row.event_id,
            )
            if number % 1000 == 0:
                await asyncio.sleep(1.0)
    assert tracker.stats.sent == len(rows), tracker.stats


async def _kill_each_service_once(stack: Stack) -> None:
    for name, pid in stack.pids.items():
        if not name.endswith("-5"):  # the gateway the SDK talks to is number 4; both processors are killed
            await asyncio.sleep(1.0)
            os.kill(pid, signal.SIGKILL)


async def _send_again(stack: Stack, key: str, rows: Sequence[Row]) -> None:
    """Shuffled, in other batch sizes, half without timestamps, through both gateways at once."""
    choose = random.Random(7)
    shuffled = list(rows)
    choose.shuffle(shuffled)
    events = [row.as_event(with_timestamp=choose.random() < 0.5) for row in shuffled]
    batches: list[list[dict[str, Any]]] = []
    while events:
        size = choose.randrange(1, 1000)
        batches.append(events[:size])
        events = events[size:]
    async with httpx2.AsyncClient(timeout=30, headers={"X-API-Key": key}) as http:

        async def send(gateway: str, batch: list[dict[str, Any]]) -> None:
            answer = await http.post(f"{gateway}/api/v1/events/batch", json=batch)
            assert answer.status_code == 202, answer.text
            assert answer.json()["failed_count"] == 0

        await asyncio.gather(
            *(send(gateway, batch) for batch in batches for gateway in stack.gateways)  # and each through both
        )


async def _until_settled(client: "redis.Redis", stack: Stack, key: str, *, expected: int) -> None:
    async with asyncio.timeout(60):
        while await client.llen(QUEUE) or await client.zcard(CLAIMS):
            await asyncio.sleep(0.1)
    counted = await _get(stack, key, "/api/v1/usage", limit=1, **DAY)
    assert counted["total_count"] == expected  # acknowledged means committed, and committed means counted


async def _reports(stack: Stack, key: str) -> dict[str, Any]:
    return {
        "hours": await _get(stack, key, "/api/v1/usage/aggregate", period="hour", **DAY),
        "services": await _get(stack, key, "/api/v1/usage/by-service", **DAY),
        "costs": await _get(stack, key, "/api/v1/usage/costs", group_by="model", **DAY),
        "users": await _get(stack, key, "/api/v1/analytics/top-users", metric="cost", **DAY),
    }


async def _get(stack: Stack, key: str, path: str, **parameters: Any) -> Any:
    async with httpx2.AsyncClient(timeout=30) as http:
        answer = await http.get(stack.query_service + path, params=parameters, headers={"X-API-Key": key})
    assert answer.status_code == 200, answer.text
    return json.loads(answer.text, parse_float=Decimal)


def _assert_exact(reports: dict[str, Any], rows: Sequence[Row]) -> None:
    """Against the file itself, hour by hour, and the cost to the last digit."""
    totals = reports["hours"]["totals"]
    assert totals["event_count"] == len(rows) == 8819
    assert totals["metrics"]["input_tokens"]["sum"] == sum(row.input_tokens for row in rows)
    assert totals["metrics"]["output_tokens"]["sum"] == sum(row.output_tokens for row in rows)
    cost = sum(row.input_tokens * INPUT_RATE + row.output_tokens * OUTPUT_RATE for row in rows)
    assert totals["total_cost"] == cost
    assert totals["unpriced_count"] == totals["error_count"] == 0
    by_hour = Counter(row.at.replace(minute=0, second=0, microsecond=0) for row in rows)
    reported = {
        datetime.fromisoformat(bucket["start"]): bucket["event_count"]
        for bucket in reports["hours"]["buckets"]
        if bucket["event_count"]
    }
    assert reported == dict(by_hour)
    assert [group["total_cost"] for group in reports["costs"]["groups"]] == [cost]
    assert [user["user_id"] for user in reports["users"]["users"]] == ["trace"]


async def _assert_per_minute(pool: asyncpg.Pool, tenant: int, rows: Sequence[Row]) -> None:
    stored = await pool.fetch(
        "SELECT date_trunc('minute', occurred_at) AS minute, count(*) AS count FROM usage_events"
        " WHERE tenant = $1 GROUP BY 1",
        tenant,
    )
    expected = Counter(row.at.replace(second=0, microsecond=0) for row in rows)
    assert {row["minute"]: row["count"] for row in stored} == dict(expected)
    assert max(expected) - min(expected) < timedelta(hours=2)

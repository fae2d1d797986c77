"""An event's way through gateway, queue, processor and fold, on real stores."""

from decimal import Decimal

import asyncpg
import redis.asyncio as redis

from shared.storage.database import Database
from tests.conftest import MakeTenant
from tests.support.pipeline import drain, fold_all, gateway, llm_event, make_processor


async def test_an_event_is_stored_with_its_cost_and_counted_once(
    database_url: str,
    redis_url: str,
    redis_client: "redis.Redis",
    database: Database,
    pool: asyncpg.Pool,
    make_tenant: MakeTenant,
) -> None:
    tenant = await make_tenant()
    async with gateway(database_url, redis_url) as client:
        for _ in range(3):
            answer = await client.post("/api/v1/events", json=llm_event("e-1"), headers={"X-API-Key": tenant.key})
            assert answer.status_code == 202, answer.text
            assert answer.json() == {"success": True, "event_id": "e-1", "message": "Event accepted"}
    await drain(redis_client, make_processor(redis_client, pool, database))
    await fold_all(pool)
    rows = await pool.fetch("SELECT * FROM usage_events WHERE tenant = $1", tenant.scope.number)
    assert [(row["event_id"], row["cost"]) for row in rows] == [("e-1", Decimal("0.009"))]
    outcomes = await pool.fetch("SELECT * FROM ingest_outcomes WHERE tenant = $1", tenant.scope.number)
    assert sum(row["duplicate_count"] for row in outcomes) == 2
    rollups = await pool.fetch(
        "SELECT r.grain, m.name, r.value_sum FROM rollups r JOIN metrics m ON m.id = r.metric_id WHERE tenant = $1",
        tenant.scope.number,
    )
    for grain in range(1, 6):
        assert {row["name"]: row["value_sum"] for row in rollups if row["grain"] == grain} == {
            "$events": 1,
            "$cost": Decimal("0.009"),
            "input_tokens": 150,
            "output_tokens": 75,
            "total_tokens": 225,
        }

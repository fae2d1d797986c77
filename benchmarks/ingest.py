"""How many events a second are accepted, how many committed, and what a bare COPY of the same rows manages.

Everything shares the machine: generator, gateway, Redis-protocol server, processor, database, aggregator.
"""

import asyncio
import time
from typing import Any

import asyncpg
import httpx2

from benchmarks import machine
from benchmarks.load import requests, send
from benchmarks.stack import cpu_seconds, peak_memory_megabytes, running_stack

_COPY_ROWS = 200_000
_COPY_BATCH = 5_000


async def run(*, event_count: int, seconds: float, processors: int, fsync: str, port_offset: int) -> dict[str, Any]:
    figures: dict[str, Any] = {
        "benchmark": "ingest",
        "machine": machine.facts(),
        "queue_appendfsync": fsync,
        "processors": processors,
    }
    async with running_stack(port_offset=port_offset, fsync=fsync, processors=processors) as stack:
        connection = await asyncpg.connect(stack["database_url"].replace("+asyncpg", ""))
        figures["database_fsync"] = await connection.fetchval("SHOW fsync")
        figures["database_synchronous_commit"] = await connection.fetchval("SHOW synchronous_commit")

        figures["drained"] = await _drained(stack, event_count)
        figures["accepted"] = {
            str(size): await _accepted(stack, per_request=size, count=count, connections=connections, seconds=seconds)
            for size, count, connections in ((1, 20_000, 32), (100, 200_000, 8), (1000, 400_000, 4))
        }
        await _wait_until_drained(stack)
        figures["peak_memory_mb"] = peak_memory_megabytes(stack["pids"])
        figures["raw_copy"] = await _raw_copy(connection)
        figures["drained_to_raw_copy"] = round(
            figures["drained"]["events_per_second"] / figures["raw_copy"]["rows_per_second"], 3
        )
        await connection.close()
    return figures


async def _drained(stack: dict[str, Any], count: int) -> dict[str, Any]:
    """From the first byte sent to the last event committed."""
    prepared = requests(stack["api_gateway"], stack["demo_key"], count=count, per_request=1000, seed=1)
    before, cpu_before = await _stored(stack), cpu_seconds(stack["pids"])
    started = time.perf_counter()
    sent = await send(stack["api_gateway"], prepared, per_request=1000, connections=4)
    while (stored := await _stored(stack) - before) < sent.events:
        await asyncio.sleep(0.05)
    elapsed = time.perf_counter() - started
    return {
        "events": stored,
        "events_per_request": 1000,
        "seconds": round(elapsed, 2),
        "events_per_second": round(stored / elapsed),
        "accepted_meanwhile_per_second": sent.events_per_second,
        "cpu_microseconds_per_event": {
            name: round((used - cpu_before[name]) / stored * 1e6, 2)
            for name, used in cpu_seconds(stack["pids"]).items()
            if name in cpu_before
        },
        "statuses": sent.statuses,
    }


async def _accepted(
    stack: dict[str, Any], *, per_request: int, count: int, connections: int, seconds: float
) -> dict[str, Any]:
    """Answered 202 a second, starting from an empty queue, while the processors drain."""
    await _wait_until_drained(stack)
    prepared = requests(stack["api_gateway"], stack["demo_key"], count=count, per_request=per_request, seed=per_request)
    sent = await send(stack["api_gateway"], prepared, per_request=per_request, connections=connections, seconds=seconds)
    return {
        "events_per_second": sent.events_per_second,
        "requests_per_second": round(sent.events_per_second / per_request),
        "connections": connections,
        "statuses": sent.statuses,
    }


async def _raw_copy(connection: asyncpg.Connection) -> dict[str, Any]:
    """The same rows, read back, copied into a table of the same shape and time index on the same server."""
    await connection.execute("CREATE TABLE bench_copy (LIKE usage_events)")
    await connection.execute("CREATE INDEX ON bench_copy (tenant, occurred_at, event_key)")
    rows = [tuple(row) for row in await connection.fetch("SELECT * FROM usage_events LIMIT $1", _COPY_ROWS)]
    started = time.perf_counter()
    for first in range(0, len(rows), _COPY_BATCH):
        await connection.copy_records_to_table("bench_copy", records=rows[first : first + _COPY_BATCH])
    elapsed = time.perf_counter() - started
    await connection.execute("DROP TABLE bench_copy")
    return {
        "rows": len(rows),
        "rows_per_copy": _COPY_BATCH,
        "seconds": round(elapsed, 2),
        "rows_per_second": round(len(rows) / elapsed),
    }


async def _stored(stack: dict[str, Any]) -> int:
    return await _sum_of(stack, "usage_events_stored_total")


async def _wait_until_drained(stack: dict[str, Any]) -> None:
    idle = 0
    while idle < 3:
        waiting = await _sum_of(stack, "usage_queue_envelopes") + await _sum_of(stack, "usage_queue_claims")
        idle = 0 if waiting else idle + 1
        await asyncio.sleep(0.5)


async def _sum_of(stack: dict[str, Any], metric: str) -> int:
    """Of the first processor's gauge, or summed over the processors for a counter."""
    urls = stack["processors"]
    total = 0
    async with httpx2.AsyncClient() as client:
        for url in urls if metric.endswith("_total") else urls[:1]:
            text = (await client.get(f"{url}/metrics")).text
            total += sum(
                int(float(line.rsplit(" ", 1)[1])) for line in text.splitlines() if line.startswith(f"{metric} ")
            )
    return total

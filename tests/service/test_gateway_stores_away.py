"""When Redis or the database is away: no 202 without durability, and no refusal that is not needed."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import asyncpg
import httpx2
import pytest
import redis.asyncio as redis
from pydantic import SecretStr

from launcher.stores import free_port
from services.api_gateway.app import create_app
from services.api_gateway.settings import ApiGatewaySettings
from shared.queue.keys import QUEUE
from shared.security.api_keys import generate_api_key
from tests.conftest import SECRET, MakeTenant, add_key
from tests.support.gateway import Front, open_front, problem_of
from tests.support.pipeline import llm_event

EVENT = llm_event("e-1")


class Link:
    """A TCP connection to a store that can be cut, or go silent, and be restored."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        assert parts.port is not None
        self._target = (parts.hostname, parts.port)
        self._port = free_port()
        self.url = url.replace(f":{parts.port}/", f":{self._port}/")
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._is_silent = False

    async def restore(self) -> None:
        self._is_silent = False
        self._server = await asyncio.start_server(self._carry, "127.0.0.1", self._port)

    async def cut(self) -> None:
        if self._server is not None:
            self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        await asyncio.sleep(0)

    def fall_silent(self) -> None:
        """Connections stay open and nothing comes through any more."""
        self._is_silent = True

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(*self._target)
        self._writers |= {writer, far_writer}

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            try:
                while data := await source.read(65536):
                    if not self._is_silent:
                        sink.write(data)
            except OSError:
                pass
            finally:
                sink.close()

        await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer))
        self._writers -= {writer, far_writer}


@asynccontextmanager
async def link_to(url: str) -> AsyncIterator[Link]:
    link = Link(url)
    await link.restore()
    try:
        yield link
    finally:
        await link.cut()


# --- Redis ------------------------------------------------------------------------------------------------------------


async def test_without_redis_nothing_is_accepted_and_the_sender_is_told_to_try_again(
    database_url: str, redis_client: "redis.Redis", make_tenant: MakeTenant
) -> None:
    url = f"redis://127.0.0.1:{free_port()}/0"
    async with open_front(database_url, url, redis_client, await make_tenant()) as front:
        for path, body in (("/events", EVENT), ("/events/batch", [EVENT])):
            answer = await front.send(path, body)
            problem = problem_of(answer, 503, "queue_unavailable")
            assert "send it again with the same event_id" in problem["detail"]
            assert int(answer.headers["retry-after"]) >= 1
        problem_of(await front.send("/events", EVENT | {"user_id": ""}), 422, "invalid_events")
        ready = await front.client.get("/readyz")
        assert (ready.status_code, ready.json()["checks"]["redis"]) == (503, "down")
        assert (await front.client.get("/health")).json()["status"] == "degraded"
        assert (await front.client.get("/livez")).status_code == 200


async def test_when_redis_comes_back_events_are_taken_again(
    database_url: str, redis_url: str, redis_client: "redis.Redis", make_tenant: MakeTenant
) -> None:
    async with (
        link_to(redis_url) as link,
        open_front(database_url, link.url, redis_client, await make_tenant()) as front,
    ):
        assert (await front.send("/events", EVENT)).status_code == 202
        await link.cut()
        for _ in range(2):
            problem_of(await front.send("/events", llm_event("e-2")), 503, "queue_unavailable")
        await link.restore()
        assert (await front.send("/events", llm_event("e-3"))).status_code == 202
        assert (await front.client.get("/readyz")).status_code == 200
        assert [event.event_id for event in await front.events()] == ["e-1", "e-3"]


async def test_a_redis_out_of_memory_takes_nothing_until_it_has_room(front: Front) -> None:
    usual = (await front.redis.config_get("maxmemory"))["maxmemory"] or "0"
    await front.redis.config_set("maxmemory", 1)
    try:
        answer = await front.send("/events", EVENT)
    finally:
        await front.redis.config_set("maxmemory", usual)
    problem_of(answer, 503, "queue_unavailable")
    assert "retry-after" in answer.headers
    assert await front.queue_length() == 0
    assert (await front.send("/events", EVENT)).status_code == 202
    assert await front.queue_length() == 1


@pytest.mark.parametrize("bound", [{"queue_max_envelopes": 2}, {"queue_max_memory_bytes": 1024}])
async def test_past_the_backlogs_bound_events_are_refused_until_it_is_drained(
    database_url: str, redis_url: str, redis_client: "redis.Redis", make_tenant: MakeTenant, bound: dict[str, int]
) -> None:
    await redis_client.rpush(QUEUE, b"a", b"b")
    async with open_front(database_url, redis_url, redis_client, await make_tenant(), **bound) as front:
        async with asyncio.timeout(5):
            while (answer := await front.send("/events", EVENT)).status_code == 202:
                await asyncio.sleep(0.02)
        problem_of(answer, 503, "queue_full")
        assert int(answer.headers["retry-after"]) >= 1
        length = await front.queue_length()
        problem_of(await front.send("/events/batch", [EVENT]), 503, "queue_full")
        assert await front.queue_length() == length
        if "queue_max_envelopes" in bound:
            await redis_client.delete(QUEUE)
            async with asyncio.timeout(5):
                while (await front.send("/events", EVENT)).status_code != 202:
                    await asyncio.sleep(0.05)
            assert [event.event_id for event in await front.events()] == ["e-1"]


async def test_a_queue_that_is_not_a_list_is_an_outage_and_not_an_error(front: Front) -> None:
    await front.redis.set(QUEUE, "somebody's text")
    problem_of(await front.send("/events", EVENT), 503, "queue_unavailable")
    await front.redis.delete(QUEUE)


async def test_what_many_senders_are_told_is_what_is_on_the_queue(front: Front) -> None:
    answers = await asyncio.gather(*(front.send("/events", llm_event(f"e-{number}")) for number in range(100)))
    assert {answer.status_code for answer in answers} == {202}
    held = await front.envelopes()
    assert sorted(event.event_id for envelope in held for event in envelope.events) == sorted(
        answer.json()["event_id"] for answer in answers
    )
    assert len({envelope.receipt for envelope in held}) == 100


# --- the database -----------------------------------------------------------------------------------------------------


async def test_while_the_database_is_away_known_keys_still_send(
    database_url: str, redis_url: str, redis_client: "redis.Redis", pool: asyncpg.Pool, make_tenant: MakeTenant
) -> None:
    tenant = await make_tenant()
    stranger = {"X-API-Key": await add_key(pool, tenant=tenant.scope.number, scopes=["ingest"])}
    async with link_to(database_url) as link, open_front(link.url, redis_url, redis_client, tenant) as front:
        assert (await front.send("/events", EVENT)).status_code == 202
        await link.cut()
        assert (await front.send("/events", llm_event("e-2"))).status_code == 202
        answer = await front.send("/events", EVENT, headers=stranger)
        problem_of(answer, 503, "database_unavailable")
        assert "retry-after" in answer.headers
        registration = {"service_type": "mine", "service_name": "Mine"}
        problem_of(await front.send("/services", registration), 503, "database_unavailable")
        assert (await front.client.get("/readyz")).status_code == 200
        health = (await front.client.get("/health")).json()
        assert (health["status"], health["checks"]["database"]) == ("degraded", "down")
        await link.restore()
        assert (await front.send("/events", llm_event("e-3"), headers=stranger)).status_code == 202
        assert [event.event_id for event in await front.events()] == ["e-1", "e-2", "e-3"]


async def test_a_database_that_hangs_does_not_hold_up_known_keys(
    database_url: str, redis_url: str, redis_client: "redis.Redis", make_tenant: MakeTenant
) -> None:
    tenant = await make_tenant()
    async with (
        link_to(database_url) as link,
        open_front(link.url, redis_url, redis_client, tenant, key_cache_seconds=0.3) as front,
    ):
        assert (await front.send("/events", EVENT)).status_code == 202
        await asyncio.sleep(0.3)
        link.fall_silent()
        started = time.monotonic()
        assert (await front.send("/events", llm_event("e-2"))).status_code == 202
        assert time.monotonic() - started < 2
        started = time.monotonic()
        assert (await front.send("/events", llm_event("e-3"))).status_code == 202
        assert time.monotonic() - started < 0.5
        await link.cut()


async def test_a_key_is_not_believed_for_ever_without_the_database(
    database_url: str, redis_url: str, redis_client: "redis.Redis", make_tenant: MakeTenant
) -> None:
    async with (
        link_to(database_url) as link,
        open_front(link.url, redis_url, redis_client, await make_tenant(), key_stale_seconds=0) as front,
    ):
        assert (await front.send("/events", EVENT)).status_code == 202
        await link.cut()
        problem_of(await front.send("/events", EVENT), 503, "database_unavailable")
        assert await front.queue_length() == 1


async def test_a_gateway_that_never_saw_the_database_starts_and_is_not_ready(redis_url: str) -> None:
    away = f"postgresql://nobody:nothing@127.0.0.1:{free_port()}/none"
    settings = ApiGatewaySettings(
        database_url=SecretStr(away), redis_url=SecretStr(redis_url), api_secret_key=SecretStr(SECRET)
    )
    app = create_app(settings)
    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
    async with app.router.lifespan_context(app), httpx2.AsyncClient(transport=transport, base_url="http://g") as client:
        ready = await client.get("/readyz")
        assert (ready.status_code, ready.json()["checks"]) == (503, {"redis": "up", "registry": "down"})
        key = {"X-API-Key": generate_api_key("test")}
        problem_of(await client.post("/api/v1/events", json=EVENT, headers=key), 503, "database_unavailable")

"""A gateway with a tenant's key in hand, and a look at what it put on the queue."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx2
import redis.asyncio as redis
from fastapi import FastAPI
from starlette.types import Message

from shared.contracts.envelope import Envelope, Event, decode
from shared.queue.keys import QUEUE
from tests.conftest import Tenant
from tests.support.pipeline import gateway

PROBLEM_FIELDS = {
    "type", "title", "status", "detail", "instance", "code", "errors", "request_id", "error", "message",
}  # fmt: skip


@dataclass(frozen=True)
class Front:
    """The gateway as one tenant sees it. Paths are under `/api/v1`."""

    client: httpx2.AsyncClient
    redis: "redis.Redis"
    tenant: Tenant

    async def send(self, path: str, content: Any = None, *, headers: dict[str, str] | None = None) -> httpx2.Response:
        """POST bytes as they are, anything else as JSON, with the tenant's key unless the headers say otherwise."""
        body: dict[str, Any] = {"content": content} if isinstance(content, bytes) else {"json": content}
        return await self.client.post(
            f"/api/v1{path}", headers={"X-API-Key": self.tenant.key} | (headers or {}), **body
        )

    @property
    def app(self) -> FastAPI:
        app: FastAPI = self.client._transport.app  # type: ignore[attr-defined]
        return app

    async def speak(self, method: str, path: str, *, query: bytes = b"", messages: Sequence[Message] = ()) -> int:
        """A request in plain ASGI, for what no client would send; the status of the answer."""
        waiting = [*messages, {"type": "http.disconnect"}]
        answer: list[Message] = []

        async def receive() -> Message:
            return waiting.pop(0)

        async def send(message: Message) -> None:
            answer.append(message)

        scope = {"type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": query}
        await self.app(scope | {"headers": [(b"x-api-key", self.tenant.key.encode())]}, receive, send)
        status: int = answer[0]["status"]
        return status

    async def envelopes(self) -> list[Envelope]:
        """Everything on the queue, oldest first, read as a processor reads it."""
        elements: list[bytes] = await self.redis.lrange(QUEUE, 0, -1)  # type: ignore[assignment]
        return [decode(element) for element in elements]

    async def events(self) -> list[Event]:
        return [event for envelope in await self.envelopes() for event in envelope.events]

    async def queue_length(self) -> int:
        length: int = await self.redis.llen(QUEUE)
        return length


@asynccontextmanager
async def open_front(
    database_url: str, redis_url: str, client: "redis.Redis", tenant: Tenant, **settings: Any
) -> AsyncIterator[Front]:
    async with gateway(database_url, redis_url, **settings) as http:
        yield Front(http, client, tenant)


def problem_of(answer: httpx2.Response, status: int, code: str) -> dict[str, Any]:
    """The body of an error, after checking that it has what every error has, and nothing of our insides."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = answer.json()
    assert problem.keys() >= PROBLEM_FIELDS
    assert problem["code"] == problem["error"] == code, answer.text
    assert problem["status"] == status
    assert problem["detail"] == problem["message"] != ""
    assert problem["type"] == f"urn:usage:error:{code}"
    assert problem["instance"].startswith("/")
    assert problem["request_id"] == answer.headers["x-request-id"]
    for inside in ("Traceback", 'File "', "SELECT ", "asyncpg", "sqlalchemy", "ut_test_"):
        assert inside not in answer.text
    return problem

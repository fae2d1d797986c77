"""Reads through the gateway: forwarded as they came, answered as the query service answers, 503 when it is away."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import redis.asyncio as redis
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from launcher.stores import free_port
from tests.conftest import MakeTenant
from tests.support.gateway import Front, open_front, problem_of
from tests.support.pipeline import llm_event


async def echo(request: Request) -> Response:
    if request.query_params.get("status"):
        return Response(
            b'{"code":"slow_down"}',
            int(request.query_params["status"]),
            {"content-type": "application/problem+json", "retry-after": "7", "x-internal": "ours"},
        )
    return JSONResponse(
        {
            "path": request.scope["raw_path"].decode(),
            "query": request.query_params.multi_items(),
            "headers": {name: value for name, value in request.headers.items() if name not in ("host", "user-agent")},
        }
    )


@pytest.fixture
async def query_service() -> AsyncIterator[str]:
    """A stand-in that answers with what it was asked."""
    app = Starlette(routes=[Route("/{path:path}", echo)])
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", lifespan="off"))
    task = asyncio.create_task(server.serve())
    async with asyncio.timeout(10):
        while not server.started:
            await asyncio.sleep(0.005)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    await task


@pytest.fixture
async def forwarding(
    database_url: str, redis_url: str, redis_client: "redis.Redis", make_tenant: MakeTenant, query_service: str
) -> AsyncIterator[Front]:
    async with open_front(
        database_url, redis_url, redis_client, await make_tenant(), query_service_url=query_service
    ) as opened:
        yield opened


async def test_a_read_arrives_with_its_path_its_query_and_the_callers_key(forwarding: Front) -> None:
    answer = await forwarding.client.get(
        "/api/v1/usage/costs?group_by=model&tags=a&tags=b%26c&q=%C3%A9",
        headers={
            "X-API-Key": "ut_key",
            "X-Tenant-ID": "t",
            "X-Customer-ID": "c",
            "X-Request-ID": "r-1",
            "Cookie": "no",
        },
    )
    assert answer.status_code == 200
    seen: dict[str, Any] = answer.json()
    assert seen["path"] == "/api/v1/usage/costs"
    assert seen["query"] == [["group_by", "model"], ["tags", "a"], ["tags", "b&c"], ["q", "é"]]
    headers = seen["headers"]
    assert (headers["x-api-key"], headers["x-tenant-id"], headers["x-customer-id"]) == ("ut_key", "t", "c")
    assert headers["x-request-id"] == answer.headers["x-request-id"] == "r-1"
    assert "cookie" not in headers


async def test_every_report_is_forwarded(forwarding: Front) -> None:
    for path in ("/api/v1/usage", "/api/v1/usage/aggregate", "/api/v1/analytics/trends"):
        answer = await forwarding.client.get(path, headers={"Authorization": "Bearer ut_key"})
        assert answer.json()["path"] == path
        assert answer.json()["headers"]["authorization"] == "Bearer ut_key"


async def test_an_error_of_the_query_service_is_passed_on(forwarding: Front) -> None:
    answer = await forwarding.client.get("/api/v1/usage?status=429")
    assert (answer.status_code, answer.json()) == (429, {"code": "slow_down"})
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["retry-after"] == "7"
    assert "x-internal" not in answer.headers


async def test_an_odd_path_is_forwarded_as_it_was_written(forwarding: Front) -> None:
    for name in ("a%00b", "a%2Fb", "%C3%A9", "a%3Fb", "x" * 3000):
        answer = await forwarding.client.get(f"/api/v1/usage/{name}", headers=[(b"X-Customer-ID", b"\xe9")])
        assert answer.status_code == 200
        assert answer.json()["path"] == f"/api/v1/usage/{name}"


async def test_a_path_cannot_climb_out_of_the_reports(forwarding: Front) -> None:
    for path in ("%2e%2e/metrics", "..%2fmetrics", "a/%2E%2E/%2e%2e/docs"):
        problem_of(await forwarding.client.get(f"/api/v1/usage/{path}"), 404, "not_found")


async def test_an_endless_address_is_refused(forwarding: Front) -> None:
    assert await forwarding.speak("GET", "/api/v1/usage", query=b"q=" + b"x" * 70_000) == 422


async def test_without_the_query_service_reads_are_503_and_events_still_taken(
    database_url: str, redis_url: str, redis_client: "redis.Redis", make_tenant: MakeTenant
) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    async with open_front(database_url, redis_url, redis_client, await make_tenant(), query_service_url=url) as front:
        answer = await front.client.get("/api/v1/usage", headers={"X-API-Key": front.tenant.key})
        problem_of(answer, 503, "query_service_unavailable")
        assert int(answer.headers["retry-after"]) >= 1
        assert (await front.send("/events", llm_event("e-1"))).status_code == 202

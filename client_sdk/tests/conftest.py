"""A real HTTP server on the loopback that answers as told and remembers what it was sent."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import pytest

from client_sdk import UsageTracker


@dataclass
class Received:
    method: str
    target: str
    headers: dict[str, str]
    raw: bytes
    at: float

    @property
    def body(self) -> bytes:
        return gzip.decompress(self.raw) if self.headers.get("content-encoding") == "gzip" else self.raw

    @property
    def events(self) -> list[dict[str, Any]]:
        events: list[dict[str, Any]] = json.loads(self.body, parse_float=Decimal)["events"]
        return events

    @property
    def ids(self) -> list[str]:
        return [event["event_id"] for event in self.events]


@dataclass
class Reply:
    status: int = 202
    body: object = None
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Reset:
    """The connection is cut instead of answered."""


Script = Reply | Reset | Callable[[Received], Reply]


def accept(request: Received) -> Reply:
    count = len(request.events)
    return Reply(202, {"success": True, "processed_count": count, "failed_count": 0, "failed_events": []})


class Server:
    """Each request takes the next step of `script`; without one, `default` answers."""

    def __init__(self) -> None:
        self.requests: list[Received] = []
        self.script: list[Script] = []
        self.default: Script = accept
        self.gate = asyncio.Event()  # closed by a test that wants requests to hang
        self.gate.set()
        self.in_flight = self.most_in_flight = 0
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def stop(self) -> None:
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        await self._server.wait_closed()

    @property
    def accepted_ids(self) -> list[str]:
        return [event_id for request in self.requests for event_id in request.ids]

    async def wait_for_requests(self, count: int) -> None:
        async with asyncio.timeout(5):
            while len(self.requests) < count:  # noqa: ASYNC110
                await asyncio.sleep(0.002)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while line := await reader.readline():
                method, target, _ = line.decode().split(" ", 2)
                headers = {}
                while (line := await reader.readline()) not in (b"\r\n", b""):
                    name, _, value = line.decode().partition(":")
                    headers[name.strip().lower()] = value.strip()
                raw = await reader.readexactly(int(headers.get("content-length", 0)))
                request = Received(method, target, headers, raw, asyncio.get_running_loop().time())
                self.requests.append(request)
                step = self.script.pop(0) if self.script else self.default
                self.in_flight += 1
                self.most_in_flight = max(self.most_in_flight, self.in_flight)
                await self.gate.wait()
                self.in_flight -= 1
                if isinstance(step, Reset):
                    writer.transport.abort()
                    return
                reply = step(request) if callable(step) else step
                body = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
                head = {**reply.headers, "Content-Length": str(len(body))}
                lines = [f"HTTP/1.1 {reply.status} X", *(f"{name}: {value}" for name, value in head.items()), "", ""]
                writer.write("\r\n".join(lines).encode() + body)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()


class Kit:
    """What the tests use, so that no test imports another file."""

    Reply = Reply
    Reset = Reset
    accept = staticmethod(accept)

    @staticmethod
    def refuse(*indexes: int) -> Callable[[Received], Reply]:
        """202 with the named events refused."""

        def answer(request: Received) -> Reply:
            failed = [{"index": index, "error": f"bad {index}", "event_data": {}} for index in indexes]
            good_count = len(request.events) - len(failed)
            body = {
                "success": True,
                "processed_count": good_count,
                "failed_count": len(failed),
                "failed_events": failed,
            }
            return Reply(202, body)

        return answer

    @staticmethod
    def problem(status: int, detail: str = "no", **more: object) -> Reply:
        body = {"type": "about:blank", "title": "Problem", "status": status, "detail": detail, "code": "c", **more}
        return Reply(status, body, {"Content-Type": "application/problem+json"})

    @staticmethod
    async def track(tracker: UsageTracker, count: int = 1) -> list[str]:
        return [
            await tracker.track_llm(user_id="u", model="m", input_tokens=number, output_tokens=0)
            for number in range(count)
        ]


@pytest.fixture
def kit() -> Kit:
    return Kit()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    await server.start()
    yield server
    server.gate.set()
    await server.stop()


@pytest.fixture
def make_tracker(server: Server) -> Callable[..., UsageTracker]:
    """Trackers with delays fit for a test."""

    def make(**settings: Any) -> UsageTracker:
        quick = {
            "flush_interval_seconds": 0.01,
            "backoff_initial_seconds": 0.005,
            "backoff_max_seconds": 0.02,
            "refused_retry_seconds": 0.02,
            "timeout_seconds": 2.0,
        }
        return UsageTracker("key-1", server.url, **{**quick, **settings})

    return make

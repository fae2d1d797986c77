"""A load generator that costs little: requests made beforehand, plain connections, bounded in count and time."""

import asyncio
import gzip
import json
import random
import secrets
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

MODELS = ("gpt-4o", "gpt-4o-mini", "claude-3-5-sonnet-20241022", "gpt-4")


@dataclass(frozen=True)
class Sent:
    """What a run of requests came to."""

    events: int
    seconds: float
    statuses: dict[int, int]

    @property
    def events_per_second(self) -> int:
        return round(self.events / self.seconds)


def events(count: int, *, seed: int) -> Iterator[dict[str, object]]:
    """Believable LLM calls of one tenant over the last hour: 20 customers of 10 users each, four models."""
    choose = random.Random(seed)
    start = datetime.now(UTC) - timedelta(hours=1)
    for i in range(count):
        yield {
            "event_id": f"{(time.time_ns() // 1_000_000) << 80 | 7 << 76 | 2 << 62 | secrets.randbits(62):032x}",
            "timestamp": (start + timedelta(milliseconds=i % 3_600_000)).isoformat(),
            "user_id": f"user-{(user := choose.randrange(200))}",
            "customer_id": f"customer-{user % 20}",
            "service_type": "llm_service",
            "service_provider": "",
            "event_type": "completion",
            "metadata": {"model": choose.choice(MODELS), "temperature": 0.7},
            "metrics": {
                "input_tokens": choose.randrange(1, 8000),
                "output_tokens": choose.randrange(1, 1000),
                "latency_ms": choose.randrange(100, 9000),
            },
        }


def requests(url: str, key: str, *, count: int, per_request: int, seed: int, compress: bool = False) -> list[bytes]:
    """Whole HTTP requests, ready to be written to a socket."""
    stream = events(count, seed=seed)
    made = []
    for _ in range(count // per_request):
        batch = [_with_uuid(next(stream)) for _ in range(per_request)]
        path, content = (
            ("/api/v1/events", batch[0]) if per_request == 1 else ("/api/v1/events/batch", {"events": batch})
        )
        body = json.dumps(content, separators=(",", ":")).encode()
        encoding = ""
        if compress:
            body, encoding = gzip.compress(body, 1), "Content-Encoding: gzip\r\n"
        head = (
            f"POST {path} HTTP/1.1\r\nHost: {urlsplit(url).netloc}\r\nX-API-Key: {key}\r\n"
            f"Content-Type: application/json\r\n{encoding}Content-Length: {len(body)}\r\n\r\n"
        )
        made.append(head.encode() + body)
    return made


async def send(
    url: str, prepared: Sequence[bytes], *, per_request: int, connections: int, seconds: float = 3600
) -> Sent:
    """Send what was prepared over some connections, stopping early after `seconds`."""
    queue = iter(prepared)
    statuses: dict[int, int] = {}
    deadline = time.perf_counter() + seconds

    async def work() -> None:
        target = urlsplit(url)
        reader, writer = await asyncio.open_connection(target.hostname, target.port, limit=2**20)
        try:
            for request in queue:
                writer.write(request)
                status = await _read_answer(reader)
                statuses[status] = statuses.get(status, 0) + 1
                if time.perf_counter() > deadline:
                    return
        finally:
            writer.close()

    started = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(connections)))
    elapsed = time.perf_counter() - started
    return Sent(statuses.get(202, 0) * per_request, elapsed, statuses)


async def _read_answer(reader: asyncio.StreamReader) -> int:
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
    await reader.readexactly(length)
    return int(head[9:12])


def _with_uuid(event: dict[str, object]) -> dict[str, object]:
    text = str(event["event_id"])
    event["event_id"] = f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
    return event

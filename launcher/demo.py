"""A month of believable usage of several tenants, sent through the front door like anyone's.

The same day always gives the same events with the same ids: filling in twice adds nothing but the days since.
"""

import asyncio
import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import httpx2

from shared.domain.billing_config import rate_terms
from shared.storage.api_keys import KeyStore
from shared.storage.bootstrap import ensure_tenant
from shared.storage.database import Database
from shared.storage.registry import RegistryStore

_DAYS = 30
_BATCH = 500


@dataclass(frozen=True, slots=True)
class _Profile:
    """How one tenant uses the platform."""

    tenant_id: str
    name: str
    timezone: str
    events_per_day: int
    customers: tuple[str, ...]
    users_per_customer: int


_PROFILES = (
    _Profile("demo", "Demo", "UTC", 420, ("acme", "globex", "initech", "umbrella", "hooli"), 8),
    _Profile("northwind", "Northwind", "America/New_York", 160, ("tailspin", "contoso"), 6),
    _Profile("kathmandu-labs", "Kathmandu Labs", "Asia/Kathmandu", 90, ("himal",), 5),
)

# (provider, model, share of calls); the last is in no catalogue, so that the state "unpriced" can be seen
_MODELS = (
    ("openai", "gpt-4o-mini", 40),
    ("openai", "gpt-4o", 22),
    ("anthropic", "claude-3-5-sonnet-20241022", 20),
    ("openai", "gpt-4", 6),
    ("google", "gemini-1.5-pro", 10),
    ("in_house", "llama-tuned-7b", 2),
)
_DOCUMENTS = (("invoice", "data_extraction"), ("contract", "summarization"), ("receipt", "ocr"))
_ENDPOINTS = (("/v1/search", "GET"), ("/v1/reports", "POST"), ("/v1/export", "POST"))

_RATES = {
    "document_processor": {
        "unit": "pages_processed",
        "calculation_method": "multiply",
        "rates": {"standard": Decimal("0.015")},
    },
    "api_service": {
        "unit": "request_count",
        "calculation_method": "multiply",
        "rates": {"standard": Decimal("0.0002")},
    },
}


async def fill(stack: dict[str, Any]) -> None:
    """`stack` is what stack.json holds. Sends what is missing of the last month, then says so."""
    await _make_tenants(stack["database_url"])
    total = 0
    async with httpx2.AsyncClient(base_url=stack["api_gateway"], timeout=30) as client:
        for profile in _PROFILES:
            headers = {"X-API-Key": stack["operator_key"], "X-Tenant-ID": profile.tenant_id}
            batch: list[dict[str, Any]] = []
            for event in _month(profile, datetime.now(UTC)):
                batch.append(event)
                if len(batch) == _BATCH:
                    total += await _send(client, headers, batch)
                    batch = []
            if batch:
                total += await _send(client, headers, batch)
    print(
        f"usage: demo data sent: {total} events of {len(_PROFILES)} tenants over {_DAYS} days",
        file=sys.stderr,
        flush=True,
    )


async def _make_tenants(database_url: str) -> None:
    database = Database(database_url, pool_size=1)
    try:
        async with database.transaction() as connection:
            for profile in _PROFILES:
                await ensure_tenant(
                    connection, tenant_id=profile.tenant_id, name=profile.name, timezone=profile.timezone
                )
        for profile in _PROFILES:
            scope = await KeyStore(database).find_tenant(profile.tenant_id)
            if scope is None:
                continue  # suspended by its operator since
            for service_type, config in _RATES.items():
                await RegistryStore(database).add_rates(scope, service_type, rate_terms(config, providers=()))
    finally:
        await database.close()


async def _send(client: httpx2.AsyncClient, headers: dict[str, str], events: list[dict[str, Any]]) -> int:
    """Until it is accepted: a gateway that restarts, or a full queue, only makes this wait."""
    while True:
        try:
            answer = await client.post("/api/v1/events/batch", json={"events": events}, headers=headers)
        except httpx2.TransportError:
            await asyncio.sleep(0.5)
            continue
        if answer.status_code == 503:
            await asyncio.sleep(0.5)
            continue
        answer.raise_for_status()
        return int(answer.json()["processed_count"])


def _month(profile: _Profile, now: datetime) -> Iterator[dict[str, Any]]:
    for age in range(_DAYS, -1, -1):
        day = (now - timedelta(days=age)).date()
        yield from (event for event in _day(profile, day, age) if event["timestamp"] <= now.isoformat())


def _day(profile: _Profile, day: date, age: int) -> Iterator[dict[str, Any]]:
    choose = random.Random(f"{profile.tenant_id}:{day}")  # noqa: S311 - believable, not secret
    weekend = 0.35 if day.weekday() >= 5 else 1.0
    growth = 1.0 + (_DAYS - min(age, _DAYS)) / _DAYS * 0.6
    midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
    for number in range(int(profile.events_per_day * weekend * growth * choose.uniform(0.85, 1.15))):
        # office hours with a long tail
        second = int(min(max(choose.gauss(14.5, 3.5), 0), 23.99) * 3600) + choose.randrange(30)
        customer = choose.choices(
            profile.customers, weights=range(len(profile.customers) * 2, len(profile.customers), -1)
        )[0]
        event = {
            "event_id": str(uuid5(NAMESPACE_URL, f"usage-demo:{profile.tenant_id}:{day}:{number}")),
            "timestamp": (midnight + timedelta(seconds=second)).isoformat(),
            "customer_id": customer,
            "user_id": f"{customer}-user-{int(choose.paretovariate(1.2)) % profile.users_per_customer + 1}",
            "tags": [choose.choice(("production", "staging"))] if choose.random() < 0.3 else [],
            **choose.choices((_llm_call, _document, _api_call), weights=(70, 12, 18))[0](choose),
        }
        if choose.random() < 0.02:
            event |= {"status": "failed", "error_message": choose.choice(("timeout", "rate limited", "server error"))}
        yield event


def _llm_call(choose: random.Random) -> dict[str, Any]:
    provider, model, _ = choose.choices(_MODELS, weights=[share for *_, share in _MODELS])[0]
    input_tokens = int(choose.lognormvariate(6.8, 1.0)) + 1
    metrics = {
        "input_tokens": input_tokens,
        "output_tokens": int(choose.lognormvariate(5.2, 0.9)) + 1,
        "latency_ms": int(choose.lognormvariate(6.9, 0.5)),
    }
    if choose.random() < 0.25:
        metrics["cached_input_tokens"] = input_tokens // 2
    return {
        "service_type": "llm_service",
        "service_provider": provider,
        "event_type": choose.choice(("completion", "completion", "chat", "embedding")),
        "metadata": {"model": model, "temperature": choose.choice((0, 0.2, 0.7))},
        "metrics": metrics,
        "session_id": f"session-{choose.randrange(200)}",
    }


def _document(choose: random.Random) -> dict[str, Any]:
    document_type, processing_type = choose.choice(_DOCUMENTS)
    return {
        "service_type": "document_processor",
        "service_provider": "document_ai",
        "event_type": "processing",
        "metadata": {"document_type": document_type, "processing_type": processing_type, "file_format": "pdf"},
        "metrics": {
            "pages_processed": choose.randrange(1, 30),
            "processing_time_ms": choose.randrange(300, 20_000),
            "file_size_bytes": choose.randrange(20_000, 4_000_000),
        },
    }


def _api_call(choose: random.Random) -> dict[str, Any]:
    endpoint, method = choose.choice(_ENDPOINTS)
    return {
        "service_type": "api_service",
        "service_provider": "public_api",
        "event_type": "request",
        "metadata": {"endpoint": endpoint, "method": method, "status_code": 200},
        "metrics": {"request_count": 1, "response_time_ms": choose.randrange(5, 900)},
    }

"""Tracks a model call and a document, then reads them back.

USAGE_API_KEY=ut_... USAGE_BASE_URL=http://localhost:8000 python examples/quickstart.py
"""

import asyncio
import os
import sys
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from client_sdk import UsageTracker, UsageTrackerError


async def main() -> None:
    api_key = os.environ.get("USAGE_API_KEY")
    if not api_key:
        sys.exit("set USAGE_API_KEY to an API key")
    base_url = os.environ.get("USAGE_BASE_URL", "http://localhost:8000")

    async with UsageTracker(api_key, base_url) as tracker:
        event_id = await tracker.track_llm(
            user_id="user-123",
            service_provider="openai",
            model="gpt-4",
            input_tokens=100,
            output_tokens=50,
            latency_ms=Decimal("812.5"),
            session_id="chat-session-456",
            tags=["quickstart"],
        )
        print(f"tracked {event_id}")
        await tracker.track_document(
            user_id="user-123",
            service_provider="document_ai",
            document_type="invoice",
            processing_type="data_extraction",
            pages_processed=5,
            metadata={"accuracy": 0.98},
        )
        await tracker.flush()  # a long-running program leaves this to the background task
        print(tracker.stats)

        await asyncio.sleep(2)  # an accepted event shows in queries within two seconds
        now = datetime.now(UTC)
        usage = await tracker.get_usage(start_date=now - timedelta(hours=1), end_date=now, user_id="user-123")
        print(f"found {usage['total_count']} events")


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except UsageTrackerError as error:
        sys.exit(f"{type(error).__name__}: {error}")

"""A newcomer's first minutes: `up`, one event, its cost, a killed service, Ctrl-C, and `up` again on the same data."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

ROOT = Path(__file__).resolve().parent.parent
PORT_OFFSET = 1700
SERVICES = ("api_gateway", "event_processor", "query_service", "aggregation_service")
Found = TypeVar("Found")


class Platform:
    """One `up` in a process of its own."""

    def __init__(self, data_directory: Path) -> None:
        self._description = data_directory / "stack.json"
        started_at = time.monotonic()
        command = [sys.executable, str(ROOT / "scripts" / "run.py"), "up", "--data-dir", str(data_directory)]
        self._process = subprocess.Popen([*command, "--port-offset", str(PORT_OFFSET)])  # noqa: S603  (our own script)
        until("stack.json", self._is_described, 120.0)
        for service in SERVICES:
            until(f"{service} to be ready", partial(get, f"{self.stack[service]}/readyz"), 30.0)
        self.seconds_to_ready = time.monotonic() - started_at

    @property
    def stack(self) -> dict[str, Any]:
        described: dict[str, Any] = json.loads(self._description.read_text())
        return described

    def _is_described(self) -> bool:
        if self._process.poll() is not None:
            sys.exit(f"`up` ended with exit code {self._process.returncode}.")
        return self._description.exists()

    def stop(self, number: signal.Signals) -> None:
        self._process.send_signal(number)
        code = self._process.wait(90.0)
        expect(code == 0, f"`up` ended with exit code {code} after {number.name}")
        expect(get(f"http://127.0.0.1:{8000 + PORT_OFFSET}/livez") is None, "the gateway still answers")

    def kill(self) -> None:
        if self._process.poll() is None:
            self._process.terminate()
            self._process.wait(90.0)


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        data_directory = Path(directory) / "data"
        platform = Platform(data_directory)
        try:
            print(f"first start: {platform.seconds_to_ready:.1f} s")
            stack = platform.stack
            event_id = send_event(stack)
            event = until("the event in /api/v1/usage", lambda: find_event(stack, event_id), 10.0)
            cost = event["billing_info"]["total_cost"]
            expect(bool(cost), f"the event has no cost: {event}")
            print(f"one event, cost {cost}")

            killed = stack["pids"]["api_gateway"]
            os.kill(killed, signal.SIGKILL)
            until("another gateway", lambda: platform.stack["pids"]["api_gateway"] != killed, 10.0)
            until("the gateway to be ready", lambda: get(f"{stack['api_gateway']}/readyz"), 30.0)
            print("a killed gateway was started again")

            platform.stop(signal.SIGINT)
            platform = Platform(data_directory)
            print(f"second start: {platform.seconds_to_ready:.1f} s")
            expect(platform.seconds_to_ready < 10.0, "the second start took 10 s or more")
            expect(platform.stack["demo_key"] == stack["demo_key"], "the keys changed")
            expect(find_event(platform.stack, event_id) is not None, "the event is gone")
            platform.stop(signal.SIGTERM)
            print("the event and the keys were still there")
        finally:
            platform.kill()


def send_event(stack: dict[str, Any]) -> str:
    event_id = str(uuid.uuid4())
    event = {
        "event_id": event_id,
        "user_id": "smoke",
        "service_type": "llm_service",
        "service_provider": "openai",
        "event_type": "completion",
        "metadata": {"model": "gpt-4o"},
        "metrics": {"input_tokens": 1000, "output_tokens": 500},
    }
    answer = get(f"{stack['api_gateway']}/api/v1/events", key=stack["demo_key"], body=event)
    expect(answer is not None, "the event was not accepted")
    return event_id


def find_event(stack: dict[str, Any], event_id: str) -> dict[str, Any] | None:
    url = f"{stack['api_gateway']}/api/v1/usage?user_id=smoke&include_billing=true"
    answer = json.loads(get(url, key=stack["demo_key"]) or b"{}", parse_float=Decimal)
    return next((event for event in answer.get("events", []) if event["event_id"] == event_id), None)


def get(url: str, *, key: str = "", body: dict[str, Any] | None = None) -> bytes | None:
    """The body of a 2xx answer; None for any other."""
    headers = {"X-API-Key": key, "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, headers)  # noqa: S310  (an address of the loopback)
    try:
        with urllib.request.urlopen(request, timeout=5.0) as answer:  # noqa: S310
            return answer.read() or b" "
    except (urllib.error.URLError, OSError):
        return None


def until(what: str, condition: Callable[[], Found | None], timeout_seconds: float) -> Found:
    deadline = time.monotonic() + timeout_seconds
    while not (found := condition()):
        expect(time.monotonic() < deadline, f"waited {timeout_seconds:.0f} s for {what}")
        time.sleep(0.05)
    return found


def expect(is_true: bool, otherwise: str) -> None:
    if not is_true:
        sys.exit(f"smoke: {otherwise}")


if __name__ == "__main__":
    main()

"""What the server's answer to a batch means for each event in it."""

from dataclasses import dataclass, field
from typing import Any

import httpx2

from client_sdk._http import error_from, read_object
from client_sdk.exceptions import APIError

_ABOUT_THE_BODY = (400, 413, 422)


@dataclass(frozen=True, slots=True)
class Answer:
    """Every event not in `rejected` (position -> reason) has been accepted.

    Unless `unclear` says why the answer cannot be laid at one event's door. Then the events must be asked about again
    in smaller numbers, down to one, so that a single bad event never takes good ones with it.
    """

    rejected: dict[int, str] = field(default_factory=dict)
    duplicate_count: int = 0
    unclear: str | None = None


def read_answer(response: httpx2.Response, event_count: int) -> Answer:
    """Raises APIError when the server has not decided: the same events must be sent again, later."""
    if response.is_success:
        return _read_acceptance(response, event_count)
    error = error_from(response)
    if response.status_code not in (*_ABOUT_THE_BODY, 403):
        raise error
    rejected = _reasons(read_object(response).get("errors"), event_count)
    if len(rejected) == event_count:
        return Answer(rejected)
    if response.status_code == 403:  # about the key. Naming events, it says that this key may not send these, ever
        raise error
    return Answer(unclear=str(error))


def _read_acceptance(response: httpx2.Response, event_count: int) -> Answer:
    body = read_object(response)
    if not isinstance(body.get("processed_count"), int):
        # A captive portal or a wrong base_url says 200 to anything. It has not taken our events.
        raise APIError("the answer is not one of the usage API", status_code=response.status_code)
    rejected = _reasons(body.get("failed_events"), event_count)
    failed_count = body.get("failed_count", len(rejected))
    if failed_count != len(rejected):
        return Answer(unclear=f"{failed_count} events failed, {len(rejected)} of them named")
    duplicate_count = body.get("duplicate_count", 0)
    return Answer(rejected, duplicate_count if isinstance(duplicate_count, int) else 0)


def _reasons(items: object, event_count: int) -> dict[int, str]:
    """One event may have several errors: their reasons are joined."""
    reasons: dict[int, list[str]] = {}
    for item in items if isinstance(items, list) else ():
        index = item.get("index") if isinstance(item, dict) else None
        if isinstance(index, int) and 0 <= index < event_count:
            reasons.setdefault(index, []).append(_reason(item))
    return {index: "; ".join(parts) for index, parts in reasons.items()}


def _reason(item: dict[str, Any]) -> str:
    said = item.get("error") or item.get("message") or item.get("code") or "no reason given"
    if isinstance(said, dict):
        said = said.get("message") or said.get("code") or said
    return f"{item['field']}: {said}" if isinstance(item.get("field"), str) else str(said)

"""UsageTracker: what callers hold. Events go into a buffer at once and to the server from a background task."""

import asyncio
import json
import logging
import time
import warnings
import weakref
from collections.abc import Mapping
from decimal import Decimal
from types import TracebackType
from typing import Any, Literal, Self, Unpack

import httpx2

from client_sdk._buffer import EventBuffer, Stats
from client_sdk._events import EventFields, Quantity, encode_event, required_text
from client_sdk._http import ask, error_from, open_client, trusted_certificates
from client_sdk._json import read_json
from client_sdk._reads import UsageReads
from client_sdk._sender import RejectionCallback, Sender, SendingSettings
from client_sdk.exceptions import (
    BufferFullError,
    ConfigurationError,
    FlushError,
    TrackerClosedError,
    TransportError,
    ValidationError,
    WrongEventLoopError,
)

_log = logging.getLogger("client_sdk")

_SECONDS_BETWEEN_DROP_LOGS = 10.0

OnFull = Literal["drop_newest", "raise", "wait"]


class UsageTracker(UsageReads):
    """Counts usage without getting in the way of what is counted.

    `track_*` takes an event into memory and returns its id; it neither waits for the network nor raises on its
    account. The background task sends batches and repeats each, with the same ids, until the server has answered.
    One tracker belongs to one event loop at a time. Close it, or use `async with`: closing delivers what is left.
    """

    def __init__(
        self,
        api_key: str,
        base_url: str = "http://localhost:8000",
        tenant_id: str | None = None,
        *,
        timeout_seconds: float = 10.0,
        batch_size: int = 100,
        flush_interval_seconds: float = 1.0,
        max_concurrent_batches: int = 4,
        max_buffer_events: int = 100_000,
        on_full: OnFull = "drop_newest",
        max_retries: int = 5,
        backoff_initial_seconds: float = 0.5,
        backoff_max_seconds: float = 30.0,
        refused_retry_seconds: float = 30.0,
        close_timeout_seconds: float | None = 30.0,
        on_rejected: RejectionCallback | None = None,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        _check_address(api_key, base_url, tenant_id)
        _check_positive(
            timeout_seconds=timeout_seconds,
            batch_size=batch_size,
            max_concurrent_batches=max_concurrent_batches,
            max_buffer_events=max_buffer_events,
            backoff_initial_seconds=backoff_initial_seconds,
            backoff_max_seconds=backoff_max_seconds,
            refused_retry_seconds=refused_retry_seconds,
        )
        if flush_interval_seconds < 0 or max_retries < 0:
            raise ConfigurationError("flush_interval_seconds and max_retries must not be negative")
        if on_full not in ("drop_newest", "raise", "wait"):
            raise ConfigurationError(f"on_full must be 'drop_newest', 'raise' or 'wait', not {on_full!r}")
        if transport is None:
            trusted_certificates()
        self._address: dict[str, Any] = {
            "api_key": api_key,
            "base_url": base_url.rstrip("/"),
            "tenant_id": tenant_id,
            "timeout_seconds": timeout_seconds,
            "transport": transport,
        }
        self._settings = SendingSettings(
            batch_size=batch_size,
            flush_interval_seconds=flush_interval_seconds,
            max_concurrent_batches=max_concurrent_batches,
            max_retries=max_retries,
            backoff_initial_seconds=backoff_initial_seconds,
            backoff_max_seconds=backoff_max_seconds,
            refused_retry_seconds=refused_retry_seconds,
        )
        self._on_full = on_full
        self._on_rejected = on_rejected
        self._close_timeout_seconds = close_timeout_seconds
        self._buffer = EventBuffer(max_buffer_events)
        self._is_closed = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._client: httpx2.AsyncClient | None = None
        self._sender: Sender | None = None
        self._drop_logged_at = -_SECONDS_BETWEEN_DROP_LOGS
        # Runs when the tracker is collected or the interpreter ends, whichever comes first.
        self._farewell = weakref.finalize(self, _warn_of_unsent, self._buffer)

    async def __aenter__(self) -> Self:
        self._running()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            await self.close()
        except FlushError as failure:
            if error is None:
                raise
            _log.error("close_incomplete unsent_event_count=%d", failure.unsent_count)  # the body's error goes first

    @property
    def stats(self) -> Stats:
        return self._buffer.stats

    def unsent_events(self) -> list[dict[str, Any]]:
        """The events not answered for yet, to be kept somewhere when the server cannot be reached."""
        return [json.loads(event.body, parse_float=Decimal) for event in self._buffer.unanswered()]

    async def track_llm(
        self,
        *,
        user_id: str,
        model: str,
        input_tokens: Quantity,
        output_tokens: Quantity,
        service_provider: str | None = None,
        event_type: str = "completion",
        cached_input_tokens: Quantity | None = None,
        cache_write_tokens: Quantity | None = None,
        reasoning_tokens: Quantity | None = None,
        latency_ms: Quantity | None = None,
        model_version: str | None = None,
        temperature: Quantity | None = None,
        max_tokens: int | None = None,
        **fields: Unpack[EventFields],
    ) -> str:
        """A call to a language model. Cached and reasoning tokens are part of input and output, not added to them."""
        return await self._track(
            service_type="llm_service",
            service_provider=service_provider,
            event_type=event_type,
            user_id=user_id,
            texts={
                "model": required_text(model, "model"),
                "model_version": model_version,
                "temperature": temperature,
                "max_tokens": max_tokens,
            },
            quantities={
                "input_tokens": _required(input_tokens, "input_tokens"),
                "output_tokens": _required(output_tokens, "output_tokens"),
                "cached_input_tokens": cached_input_tokens,
                "cache_write_tokens": cache_write_tokens,
                "reasoning_tokens": reasoning_tokens,
                "latency_ms": latency_ms,
            },
            **fields,
        )

    async def track_document(
        self,
        *,
        user_id: str,
        document_type: str,
        processing_type: str,
        pages_processed: Quantity,
        service_provider: str | None = None,
        event_type: str = "processing",
        characters_extracted: Quantity | None = None,
        processing_time_ms: Quantity | None = None,
        file_size_bytes: Quantity | None = None,
        file_format: str | None = None,
        **fields: Unpack[EventFields],
    ) -> str:
        """A document that was processed; `pages_processed` is more than 0."""
        if _required(pages_processed, "pages_processed") == 0:
            raise ValidationError("pages_processed must be more than 0")
        return await self._track(
            service_type="document_processor",
            service_provider=service_provider,
            event_type=event_type,
            user_id=user_id,
            texts={
                "document_type": required_text(document_type, "document_type"),
                "processing_type": required_text(processing_type, "processing_type"),
                "file_format": file_format,
            },
            quantities={
                "pages_processed": pages_processed,
                "characters_extracted": characters_extracted,
                "processing_time_ms": processing_time_ms,
                "file_size_bytes": file_size_bytes,
            },
            **fields,
        )

    async def track_api(
        self,
        *,
        user_id: str,
        endpoint: str,
        method: str,
        request_count: Quantity = 1,
        service_provider: str | None = None,
        event_type: str = "request",
        response_time_ms: Quantity | None = None,
        payload_size_bytes: Quantity | None = None,
        response_size_bytes: Quantity | None = None,
        status_code: int | None = None,
        api_version: str | None = None,
        **fields: Unpack[EventFields],
    ) -> str:
        """Calls of an API endpoint."""
        return await self._track(
            service_type="api_service",
            service_provider=service_provider,
            event_type=event_type,
            user_id=user_id,
            texts={
                "endpoint": required_text(endpoint, "endpoint"),
                "method": required_text(method, "method"),
                "status_code": status_code,
                "api_version": api_version,
            },
            quantities={
                "request_count": _required(request_count, "request_count"),
                "response_time_ms": response_time_ms,
                "payload_size_bytes": payload_size_bytes,
                "response_size_bytes": response_size_bytes,
            },
            **fields,
        )

    async def track_custom(
        self,
        *,
        user_id: str,
        service_type: str,
        event_type: str,
        service_provider: str | None = None,
        **fields: Unpack[EventFields],
    ) -> str:
        """An event of a service type of your own; its quantities go in `metrics`, everything else in `metadata`."""
        return await self._track(
            service_type=service_type,
            service_provider=service_provider,
            event_type=event_type,
            user_id=user_id,
            texts={},
            quantities={},
            **fields,
        )

    async def flush(self, timeout_seconds: float | None = 30.0) -> None:
        """Waits until everything tracked before the call is answered for; FlushError if that cannot be had in time.

        Each batch gets `max_retries` more attempts (none if the server refuses the key). What is not delivered stays
        buffered and goes on being sent. None waits without a limit of time.
        """
        await self._running().flush(timeout_seconds)

    async def close(self, timeout_seconds: float | None = None) -> None:
        """Flushes, then closes for good; by default within `close_timeout_seconds`. Closing twice is harmless."""
        if self._is_closed:
            return
        sender = self._running() if self._loop or self._buffer.buffered_count else None
        self._is_closed = True  # from here on nothing new comes in, so the flush covers everything
        try:
            if sender is not None:
                await sender.flush(self._close_timeout_seconds if timeout_seconds is None else timeout_seconds)
        finally:
            self._farewell.detach()  # a FlushError has said it already
            if sender is not None:
                sender.progress.send()  # whoever waits for room must hear that there will be none
                await sender.stop()
            if self._client is not None:
                await self._client.aclose()

    async def _track(self, **event: Any) -> str:
        sender = self._running()
        event_id, body = encode_event(**event)
        while self._buffer.is_full:
            if self._on_full == "raise":
                raise BufferFullError(f"the buffer holds {self._buffer.max_events} events; the event was not queued")
            if self._on_full == "drop_newest":
                self._drop()
                return event_id
            await sender.progress.wait()
            sender = self._running()
        sender.add(body)
        if sender.has_full_batch:
            await asyncio.sleep(0)  # or a loop that only tracks would never let the sender run
        return event_id

    def _drop(self) -> None:
        self._buffer.dropped_count += 1
        now = time.monotonic()
        if now - self._drop_logged_at >= _SECONDS_BETWEEN_DROP_LOGS:
            self._drop_logged_at = now
            _log.error("buffer_full dropped_event_count=%d", self._buffer.dropped_count)

    async def _get(self, path: str, parameters: Mapping[str, object]) -> Any:
        self._running()
        assert self._client is not None  # noqa: S101  # _running has just made it
        response = await ask(self._client, "GET", path, params=parameters)
        if not response.is_success:
            raise error_from(response)
        try:
            return read_json(response.content)
        except ValueError as error:
            raise TransportError("the answer is not JSON") from error

    def _running(self) -> Sender:
        """The sender of this event loop, made when first needed, and made anew when its loop or its task has ended."""
        if self._is_closed:
            raise TrackerClosedError
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            if self._loop is not None and not self._loop.is_closed():
                raise WrongEventLoopError
            self._loop, self._client, self._sender = loop, open_client(**self._address), None
        if self._sender is None or not self._sender.is_running:
            assert self._client is not None  # noqa: S101  # made together with the loop
            self._sender = Sender(
                buffer=self._buffer, client=self._client, settings=self._settings, on_rejected=self._on_rejected
            )
        return self._sender


def _required(value: Quantity, name: str) -> Quantity:
    if value is None:
        raise ValidationError(f"{name} is required")
    return value


def _check_address(api_key: str, base_url: str, tenant_id: str | None) -> None:
    for name, value in (("api_key", api_key), ("tenant_id", tenant_id)):
        # the value itself stays out of the message: it may be a key with a typing error
        if value is not None and not (isinstance(value, str) and value and value.isascii() and value.isprintable()):
            raise ConfigurationError(f"{name} must be printable ASCII text and not empty")
    if api_key is None:
        raise ConfigurationError("api_key is required")
    try:
        url = httpx2.URL(base_url)
    except (httpx2.InvalidURL, TypeError) as error:
        raise ConfigurationError(f"base_url is not a URL: {error}") from error
    if url.scheme not in ("http", "https") or not url.host:
        raise ConfigurationError("base_url must begin with http:// or https:// and name a host")


def _check_positive(**settings: float) -> None:
    for name, value in settings.items():
        if not value > 0:
            raise ConfigurationError(f"{name} must be more than 0")


def _warn_of_unsent(buffer: EventBuffer) -> None:
    if buffer.buffered_count:
        _log.error("tracker_not_closed unsent_event_count=%d", buffer.buffered_count)
        warnings.warn(
            f"a UsageTracker was not closed: {buffer.buffered_count} events were not sent",
            ResourceWarning,
            stacklevel=2,
        )

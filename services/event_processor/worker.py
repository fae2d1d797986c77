"""The loop of a processor: claim, prepare, commit, acknowledge. Three outcomes for an envelope and no others:
stored, tried again later, or set aside as a dead letter.
"""

import asyncio
import hashlib
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from typing import TypeAlias

import structlog

from services.event_processor.batches import Batch
from services.event_processor.rating import Rater
from services.event_processor.settings import EventProcessorSettings
from shared.catalogue.llm_prices import LlmPriceCatalogue
from shared.contracts.envelope import Envelope, UnreadableEnvelope, decode
from shared.domain.errors import Unavailable
from shared.observability import metrics
from shared.queue.connection import REDIS_FAILURES, is_cancelled
from shared.queue.consumer import Claim, Consumer
from shared.storage.database import DATA_FAILURES, SCHEMA_FAILURES, TRANSIENT_FAILURES
from shared.storage.event_store import DeadLetter, EventStore, Outcome
from shared.storage.registry import Registry, RegistryStore
from shared.storage.vocabulary import Vocabulary

log = structlog.get_logger()

_IDLE_SECONDS = (0.005, 0.01, 0.02, 0.05)
_RETRY_SECONDS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
_AWAY: tuple[type[BaseException], ...] = (*TRANSIENT_FAILURES, *SCHEMA_FAILURES, *REDIS_FAILURES, Unavailable)


_Readable: TypeAlias = tuple[bytes, Envelope]  # as it came, and decoded


class TooManyDeadLetters(Exception):
    """Most envelopes fail: the fault is ours, not theirs. They stay in the queue until a processor can store them."""


class DeadLetterGuard:
    """Refuses to set aside more than half of the last envelopes: a bad release must not drain the queue."""

    def __init__(self, *, window: int = 50, minimum: int = 10) -> None:
        self._recent: deque[bool] = deque(maxlen=window)
        self._minimum = minimum

    def require(self, *, stored: int, set_aside: int) -> None:
        """Raises TooManyDeadLetters when, counting these, too many of the last envelopes would be set aside."""
        failed = sum(self._recent) + set_aside
        if set_aside and failed > self._minimum and failed * 2 > len(self._recent) + stored + set_aside:
            raise TooManyDeadLetters

    def record(self, *, stored: int, set_aside: int) -> None:
        """What was committed: an attempt that failed says nothing about its envelopes."""
        self._recent.extend([True] * set_aside + [False] * stored)


class Processor:
    """Everything a batch needs; several `run`s may share one, each working on its own batch."""

    def __init__(
        self,
        *,
        consumer: Consumer,
        store: EventStore,
        vocabulary: Vocabulary,
        registry_store: RegistryStore,
        catalogue: LlmPriceCatalogue,
        settings: EventProcessorSettings,
    ) -> None:
        self._consumer = consumer
        self._store = store
        self._vocabulary = vocabulary
        self._registry_store = registry_store
        self._catalogue = catalogue
        self._settings = settings
        self._registry = Registry(version=-1)
        self._rater = Rater(self._registry, catalogue)
        self._guard = DeadLetterGuard()
        self._is_stopping = asyncio.Event()
        self.failing_since: float | None = None
        self._provider_of = lru_cache(maxsize=10_000)(lambda model: catalogue.provider_of(model) or "")

    def stop(self) -> None:
        """Finish the batches under way and return from `run`; nothing new is claimed."""
        self._is_stopping.set()

    async def run(self) -> None:
        idle = 0
        while not self._is_stopping.is_set() and not is_cancelled():
            try:
                claims = await self._gather()
                if claims:
                    idle = 0
                    await self._process(claims)
                    continue
            except Exception as error:  # a worker that ended would let the queue fill up unseen
                log.warning("claim_failed", reason=type(error).__name__, exc_info=_unless_away(error))
                await self._pause(1.0)
                continue
            await self._pause(_IDLE_SECONDS[min(idle, len(_IDLE_SECONDS) - 1)])
            idle += 1

    async def keep_leases(self) -> None:
        """Renew what is held, return what the dead held, and say how much waits. Runs beside `run`."""
        while not is_cancelled():
            try:
                await self._consumer.renew()
                if returned := await self._consumer.reclaim():
                    metrics.ENVELOPES_RECLAIMED.inc(returned)
                    log.warning("claims_reclaimed", envelope_count=returned)
                depth = await self._consumer.depth()
                metrics.QUEUE_ENVELOPES.set(depth.envelopes)
                metrics.QUEUE_CLAIMED.set(depth.claims)
                metrics.QUEUE_OLDEST_SECONDS.set(_age_seconds(depth.oldest))
            except Exception as error:  # without this loop every lease ends under the workers' hands
                log.warning("lease_renewal_failed", reason=type(error).__name__, exc_info=_unless_away(error))
            await asyncio.sleep(min(1.0, self._consumer.lease_seconds / 5))

    async def _gather(self) -> list[Claim]:
        """Claim what is there; when that is little, wait once for more, so that trickling events share a commit."""
        settings = self._settings
        room_bytes, room_envelopes = settings.batch_max_bytes, settings.batch_max_envelopes
        first = await self._consumer.claim(max_envelopes=room_envelopes, max_bytes=room_bytes)
        if first is None:
            return []
        room_bytes -= sum(map(len, first.envelopes))
        room_envelopes -= len(first.envelopes)
        if room_bytes <= settings.batch_max_bytes // 2 or room_envelopes <= 0:
            return [first]
        second = None
        try:
            await self._pause(settings.batch_max_age_seconds)
            if not self._is_stopping.is_set():
                second = await self._consumer.claim(max_envelopes=room_envelopes, max_bytes=room_bytes)
        except REDIS_FAILURES:
            pass  # the first is enough
        except BaseException:
            self._consumer.abandon(first)
            raise
        return [first] if second is None else [first, second]

    async def _process(self, claims: Sequence[Claim]) -> None:
        """Commit the claims' envelopes, however long the database is away, or put them back when this process stops."""
        # the same element twice is one delivery, and not duplicates sent by anyone
        envelopes = list(dict.fromkeys(envelope for claim in claims for envelope in claim.envelopes))
        try:
            if not await self._commit_in_the_end(envelopes):
                await self._release(claims)
                return
            for claim in claims:
                try:
                    await self._consumer.acknowledge(claim)
                except REDIS_FAILURES as error:
                    # committed all the same: the lease ends, the envelopes return, and their keys are recognised
                    log.warning("acknowledge_failed", reason=type(error).__name__)
        finally:
            for claim in claims:  # whatever happened, a lease nobody works under is not renewed
                self._consumer.abandon(claim)

    async def _commit_in_the_end(self, envelopes: Sequence[bytes]) -> bool:
        """Try until it is committed; False when this process was told to stop first."""
        attempt = 0
        while True:
            try:
                await self._commit(envelopes)
            except _AWAY as error:
                reason = type(error).__name__
            except Exception as error:  # nothing is lost by trying again
                reason = type(error).__name__
                log.error("processor_holds", reason=reason, exc_info=error)
            else:
                self.failing_since = None
                return True
            metrics.BATCH_FAILURES.labels(reason).inc()
            self.failing_since = self.failing_since or time.monotonic()
            log.warning("batch_failed", reason=reason, attempt=attempt, envelope_count=len(envelopes))
            await self._pause(_RETRY_SECONDS[min(attempt, len(_RETRY_SECONDS) - 1)])
            if self._is_stopping.is_set():
                return False
            attempt += 1

    async def _commit(self, raw: Sequence[bytes]) -> None:
        await self._refresh_registry()
        readable: list[_Readable] = []
        letters: list[DeadLetter] = []
        for data in raw:
            try:
                readable.append((data, decode(data)))
            except UnreadableEnvelope as error:
                letters.append(_dead_letter(data, None, "unreadable", error.detail))
        self._guard.require(stored=len(readable), set_aside=len(letters))
        try:
            await self._store_batch([envelope for _, envelope in readable], letters)
        except _AWAY:
            raise
        except Exception as error:  # whatever it is, nothing was stored: find the envelope at fault
            log.warning("batch_isolated", reason=type(error).__name__, envelope_count=len(raw), exc_info=error)
            self._store.forget()
            self._vocabulary.forget()
            await self._isolate(readable, letters, total=len(raw))
            if letters:
                await self._store_batch([], letters)
        self._guard.record(stored=len(raw) - len(letters), set_aside=len(letters))

    async def _isolate(self, readable: Sequence[_Readable], letters: list[DeadLetter], *, total: int) -> None:
        """Store all but the envelopes at fault, found by halving; those become `letters`, if not most of `total`."""
        middle = (len(readable) + 1) // 2
        for part in (readable[:middle], readable[middle:]):
            if not part:
                continue
            try:
                await self._store_batch([envelope for _, envelope in part], [])
            except _AWAY:
                raise
            except Exception as error:  # noqa: BLE001 - the same
                if len(part) > 1:
                    await self._isolate(part, letters, total=total)
                    continue
                ((data, envelope),) = part
                reason = "unstorable" if isinstance(error, DATA_FAILURES) else "processing_failed"
                letters.append(_dead_letter(data, envelope, reason, type(error).__name__))
                log.error("envelope_not_stored", reason=reason, error=type(error).__name__)
                self._guard.require(stored=total - len(letters), set_aside=len(letters))

    async def _store_batch(self, envelopes: Sequence[Envelope], letters: Sequence[DeadLetter]) -> None:
        begun = started = time.perf_counter()
        batch = Batch(envelopes, registry=self._registry, rater=self._rater, provider_of=self._provider_of)
        metrics.BATCH_SECONDS.labels("prepare").observe(time.perf_counter() - started)
        started = time.perf_counter()
        words = await self._vocabulary.learn(
            dimensions=batch.dimensions,
            metrics=batch.metric_names,
            prices=batch.prices,
        )
        await self._store.ensure_partitions(batch.days)
        outcome = await self._store.store(
            batch.identities,
            batch.rows(words),
            describe=batch.describe,
            sum_up=lambda indexes: batch.sum_up(indexes, vocabulary=words),
            dead_letters=letters,
        )
        metrics.BATCH_SECONDS.labels("store").observe(time.perf_counter() - started)
        for letter in letters:
            metrics.DEAD_LETTERS.labels(letter.reason).inc()
        if len(batch):
            metrics.BATCH_EVENTS.observe(len(batch))
        metrics.EVENTS_UNPRICED.inc(batch.unpriced_among(outcome.new))
        self._report(outcome, len(letters), time.perf_counter() - begun)

    async def _refresh_registry(self) -> None:
        """Service types and rates as they are now: one cheap query a batch, a reload when something changed."""
        if await self._registry_store.version() != self._registry.version:
            self._registry = await self._registry_store.load()
            self._rater = Rater(self._registry, self._catalogue)

    async def _release(self, claims: Sequence[Claim]) -> None:
        for claim in reversed(claims):  # each goes to the head of the queue: the first claimed is next in line again
            try:
                await self._consumer.release(claim)
            except REDIS_FAILURES as error:
                log.warning("release_failed", reason=type(error).__name__)  # the lease ends by itself

    async def _pause(self, seconds: float) -> None:
        """Sleep, but wake when the process is told to stop."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._is_stopping.wait()

    def _report(self, outcome: Outcome, dead_letter_count: int, seconds: float) -> None:
        metrics.EVENTS_STORED.inc(outcome.stored)
        metrics.EVENTS_DUPLICATE.inc(outcome.duplicate)
        metrics.EVENTS_CONFLICT.inc(outcome.conflict)
        log.info(
            "batch_committed",
            stored_count=outcome.stored,
            duplicate_count=outcome.duplicate,
            conflict_count=outcome.conflict,
            redelivered_count=outcome.redelivered,
            dead_letter_count=dead_letter_count,
            seconds=round(seconds, 4),
        )


def _unless_away(error: Exception) -> Exception | None:
    """What is worth a stack trace in the log."""
    return None if isinstance(error, REDIS_FAILURES) else error


def _dead_letter(data: bytes, envelope: Envelope | None, reason: str, detail: str) -> DeadLetter:
    return DeadLetter(
        tenant=envelope.tenant if envelope is not None and 0 < envelope.tenant < 2**31 else None,
        digest=hashlib.blake2b(data, digest_size=32).digest(),
        reason=reason,
        detail=detail[:1000].replace("\x00", ""),
        event_count=0 if envelope is None else len(envelope.events),
        envelope=data,
    )


def _age_seconds(oldest: bytes | None) -> float:
    if oldest is None:
        return 0.0
    try:
        received_at = decode(oldest).received_at
    except UnreadableEnvelope:
        return 0.0
    return max(0.0, time.time() - received_at / 1_000_000)

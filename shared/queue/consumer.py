"""The processor's end of the queue: claim, renew, acknowledge after the commit, return what a dead worker held.

Every step is one script, so it happens wholly or not at all. A claim is a list of its own with a random name and a
deadline; whoever finds it past its deadline puts its envelopes back at the head of the queue. A worker that was only
asleep may then process the same envelopes a second time: the database recognises them by their keys.
"""

import secrets
from dataclasses import dataclass

import redis.asyncio as redis

from shared.queue.keys import CLAIM_PREFIX, CLAIMS, QUEUE

_FLAGS = "#!lua flags=allow-oom"
_NOW = "local t = redis.call('TIME'); local now = t[1] * 1000 + math.floor(t[2] / 1000);"

_CLAIM = f"""{_FLAGS}
{_NOW}
local taken, bytes = {{}}, 0
while #taken < tonumber(ARGV[1]) and bytes < tonumber(ARGV[2]) do
  local envelope = redis.call('LMOVE', KEYS[1], KEYS[2], 'LEFT', 'RIGHT')
  if not envelope then break end
  taken[#taken + 1] = envelope
  bytes = bytes + #envelope
end
if #taken > 0 then redis.call('ZADD', KEYS[3], now + ARGV[3], KEYS[2]) end
return taken
"""

_RENEW = f"""{_FLAGS}
{_NOW}
for i = 2, #ARGV do redis.call('ZADD', KEYS[1], 'XX', now + ARGV[1], ARGV[i]) end
return 0
"""

# the claim that would end last goes back first, so that the oldest envelopes are next in line
_RECLAIM = f"""{_FLAGS}
{_NOW}
local returned = 0
local expired = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now, 'LIMIT', 0, 100)
for i = #expired, 1, -1 do
  local claim = expired[i]
  while redis.call('LMOVE', claim, KEYS[1], 'RIGHT', 'LEFT') do returned = returned + 1 end
  redis.call('ZREM', KEYS[2], claim)
end
return returned
"""

_RELEASE = f"""{_FLAGS}
while redis.call('LMOVE', KEYS[2], KEYS[1], 'RIGHT', 'LEFT') do end
redis.call('ZREM', KEYS[3], KEYS[2])
return 0
"""


@dataclass(frozen=True, slots=True)
class Claim:
    """Envelopes held by this worker until it acknowledges, releases, or lets the lease end."""

    name: str
    envelopes: list[bytes]


@dataclass(frozen=True, slots=True)
class QueueDepth:
    """What waits and what is in flight; `oldest` is the envelope next in line, None when the queue is empty."""

    envelopes: int
    claims: int
    oldest: bytes | None


class Consumer:
    def __init__(self, client: "redis.Redis", *, lease_seconds: float = 30.0) -> None:
        self._client = client
        self._lease_milliseconds = int(lease_seconds * 1000)
        self._held: set[str] = set()
        self._claim = client.register_script(_CLAIM)
        self._renew = client.register_script(_RENEW)
        self._reclaim = client.register_script(_RECLAIM)
        self._release = client.register_script(_RELEASE)

    @property
    def lease_seconds(self) -> float:
        return self._lease_milliseconds / 1000

    async def claim(self, *, max_envelopes: int, max_bytes: int) -> Claim | None:
        """Take envelopes off the head of the queue, at least one however large; None when it is empty."""
        name = CLAIM_PREFIX + secrets.token_hex(12)
        taken = await self._claim(keys=[QUEUE, name, CLAIMS], args=[max_envelopes, max_bytes, self._lease_milliseconds])
        if not taken:
            return None
        self._held.add(name)
        return Claim(name=name, envelopes=taken)

    async def renew(self) -> None:
        """Extend the lease of all that this worker holds. Call well within the lease."""
        if self._held:
            await self._renew(keys=[CLAIMS], args=[self._lease_milliseconds, *self._held])

    async def acknowledge(self, claim: Claim) -> None:
        """The database has committed: forget the envelopes. Harmless when the claim was reclaimed meanwhile."""
        async with self._client.pipeline(transaction=True) as pipeline:
            pipeline.unlink(claim.name)
            pipeline.zrem(CLAIMS, claim.name)
            await pipeline.execute()
        self._held.discard(claim.name)

    async def release(self, claim: Claim) -> None:
        """Put the envelopes back at the head of the queue, unprocessed."""
        await self._release(keys=[QUEUE, claim.name, CLAIMS])
        self._held.discard(claim.name)

    def abandon(self, claim: Claim) -> None:
        """Stop renewing: the lease ends by itself and the envelopes return to the queue. Harmless for a claim that was
        acknowledged or released."""
        self._held.discard(claim.name)

    async def reclaim(self) -> int:
        """Return every expired claim, of any worker, to the head of the queue; how many envelopes came back."""
        return int(await self._reclaim(keys=[QUEUE, CLAIMS]))

    async def depth(self) -> QueueDepth:
        async with self._client.pipeline(transaction=False) as pipeline:
            pipeline.llen(QUEUE)
            pipeline.zcard(CLAIMS)
            pipeline.lindex(QUEUE, 0)
            envelopes, claims, oldest = await pipeline.execute()
        return QueueDepth(envelopes=envelopes, claims=claims, oldest=oldest)

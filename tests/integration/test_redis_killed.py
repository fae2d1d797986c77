"""What a 202 rests on: an envelope whose push returned is on the list after the Redis-protocol server was killed."""

import asyncio
from pathlib import Path

import pytest

from launcher.stores import Fsync, Valkey, free_port
from launcher.supervisor import Child
from shared.domain.errors import QueueUnavailable
from shared.queue.connection import connect
from shared.queue.keys import QUEUE
from shared.queue.producer import Producer


@pytest.mark.parametrize("fsync", ["always", "everysec"])
async def test_every_push_that_returned_survives_a_kill_of_redis(tmp_path: Path, fsync: Fsync) -> None:
    valkey = Valkey(tmp_path / "redis", port=free_port(), log=tmp_path / "redis.log", fsync=fsync)
    valkey.prepare()
    server = Child(valkey.program())
    server.start()
    await asyncio.to_thread(server.wait_ready)
    accepted: list[bytes] = []
    refused = 0

    async def send(sender: int, producer: Producer) -> None:
        nonlocal refused
        for number in range(2_000):
            envelope = b"%d-%d" % (sender, number)
            try:
                await producer.push(envelope)
            except QueueUnavailable:
                refused += 1
                return
            accepted.append(envelope)

    client = connect(valkey.url)
    try:
        async with Producer(client) as producer:
            senders = [asyncio.create_task(send(sender, producer)) for sender in range(8)]
            while len(accepted) < 500:
                await asyncio.sleep(0.001)
            server.kill()
            await asyncio.gather(*senders)
        assert refused == 8, "the kill came while all of them were sending"
        server.start()
        await asyncio.to_thread(server.wait_ready)
        kept = await client.lrange(QUEUE, 0, -1)
        assert set(accepted) <= set(kept)
        assert len(kept) == len(set(kept))
    finally:
        await client.aclose()
        server.stop()

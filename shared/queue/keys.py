"""The names of everything the queue keeps in Redis."""

QUEUE = "usage_events"  # the list; one element per accepted request
CLAIMS = f"{QUEUE}:claims"  # sorted set: claim name -> deadline, milliseconds of the Redis server's clock
CLAIM_PREFIX = f"{QUEUE}:claim:"  # one list per claim; its name is random and never used twice

"""API keys look like `ut_<environment>_<random>_<checksum>`: recognisable, and a typo is refused without a lookup.

Only an HMAC of the key is kept, keyed with API_SECRET_KEY, so a copy of the database lets nobody in.
"""

import hashlib
import hmac
import secrets
import string
import zlib

_ALPHABET = string.ascii_letters + string.digits
_RANDOM_CHARACTERS = 32  # 190 bits


def generate_api_key(environment: str = "live") -> str:
    """A new key, e.g. `ut_live_4fX…_0k3d9a`. Show it once; keep only `hash_api_key` of it."""
    body = f"ut_{environment}_{''.join(secrets.choice(_ALPHABET) for _ in range(_RANDOM_CHARACTERS))}"
    return f"{body}_{_checksum(body)}"


def is_well_formed(key: str) -> bool:
    """True when the checksum fits; says nothing about whether the key exists."""
    body, _, checksum = key.rpartition("_")
    return (
        body.startswith("ut_") and len(key) <= 128 and hmac.compare_digest(checksum.encode(), _checksum(body).encode())
    )


def hash_api_key(key: str, *, secret: str) -> bytes:
    """32 bytes: HMAC-SHA256 of the key under the platform's secret."""
    return hmac.new(secret.encode(), key.encode(), hashlib.sha256).digest()


def _checksum(body: str) -> str:
    return f"{zlib.crc32(body.encode()):08x}"[:6]

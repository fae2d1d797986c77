"""A request's body: read within bounds, decompressed within bounds, decoded once."""

import zlib
from typing import Any

import msgspec
from backports import zstd
from starlette.requests import Request

from shared.contracts import exact_json
from shared.domain.errors import InvalidRequest, PayloadTooLarge, UnsupportedMediaType

_JSON_TYPES = frozenset({"application/json", "text/json", ""})
_LINES_TYPES = frozenset({"application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines"})


class MalformedLine:
    """Stands for a line of NDJSON that is not JSON: the other lines are kept."""

    def __init__(self, detail: str) -> None:
        self.detail = detail


async def read_body(request: Request, *, max_bytes: int) -> bytes:
    """The decompressed body. Raises PayloadTooLarge as soon as either form exceeds `max_bytes`, before reading on."""
    too_large = PayloadTooLarge(f"The body exceeds {max_bytes} bytes; send fewer events in one request.")
    if int(request.headers.get("content-length") or 0) > max_bytes:
        raise too_large
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > max_bytes:
            raise too_large
        chunks.append(chunk)
    data = b"".join(chunks)
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding in ("", "identity"):
        return data
    try:
        if encoding == "gzip":
            decompressor = zlib.decompressobj(wbits=31)
            plain = decompressor.decompress(data, max_bytes + 1)
            is_complete = decompressor.eof and not decompressor.unused_data
        elif encoding == "zstd":
            stream = zstd.ZstdDecompressor()
            plain = stream.decompress(data, max_bytes + 1)
            is_complete = stream.eof and not stream.unused_data
        else:
            raise UnsupportedMediaType(f"Content-Encoding `{encoding[:40]}` is not supported; use gzip, zstd or none.")
    except (zlib.error, zstd.ZstdError, EOFError) as error:
        raise InvalidRequest(f"The body is not valid {encoding}.") from error
    if len(plain) > max_bytes:
        raise too_large
    if not is_complete:
        raise InvalidRequest(f"The {encoding} body is cut off or has something after its end.")
    return plain


def decode_body(data: bytes, *, content_type: str) -> Any:
    """JSON by default, a list of values for NDJSON. Numbers keep their digits. Raises InvalidRequest with the place."""
    media_type = content_type.split(";", 1)[0].strip().lower()
    if media_type in _LINES_TYPES:
        return [_decode_line(line) for line in data.splitlines() if line.strip()]
    if media_type not in _JSON_TYPES:
        raise UnsupportedMediaType(f"Content-Type `{media_type[:60]}` is not supported; send application/json.")
    try:
        return exact_json.loads(data)
    except (msgspec.DecodeError, ValueError) as error:
        raise InvalidRequest(f"The body is not valid JSON: {error}.") from error
    except RecursionError as error:
        raise InvalidRequest("The body is nested too deeply; flatten it.") from error


def _decode_line(line: bytes) -> Any:
    try:
        return exact_json.loads(line)
    except (msgspec.DecodeError, ValueError) as error:
        return MalformedLine(str(error))
    except RecursionError:
        return MalformedLine("nested too deeply")

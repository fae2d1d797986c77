"""A request's body: read within bounds, decompressed within bounds, decoded once."""

import re
import zlib
from io import BytesIO
from itertools import islice
from typing import Any, Final

from backports import zstd
from starlette.requests import ClientDisconnect, Request

from shared.contracts import exact_json
from shared.domain.errors import InvalidRequest, PayloadTooLarge, UnsupportedMediaType

_JSON_TYPES = frozenset({"application/json", "text/json", ""})
_LINES_TYPES = frozenset({"application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines"})

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# a window of 8 MiB, as RFC 9659 says: the memory that a few bytes may claim
_ZSTD_OPTIONS = {int(zstd.DecompressionParameter.window_log_max): 23}
_MAX_PRUNED_BYTES: Final = 512 * 1024
_KEPT_LEVELS: Final = 64  # far deeper than validation lets any event be
# strings are matched so as to be stepped over
_BRACKETS = re.compile(rb'"(?:[^"\\]|\\.)*"|([\[{]+)|([\]}]+)', re.DOTALL)


class MalformedLine:
    """Stands for a line of NDJSON that is not JSON: the other lines are kept."""

    def __init__(self, detail: str) -> None:
        self.detail = detail


async def read_body(request: Request, *, max_bytes: int) -> bytes:
    """The decompressed body. Raises PayloadTooLarge as soon as either form exceeds `max_bytes`, before reading on."""
    too_large = PayloadTooLarge(f"The body exceeds {max_bytes} bytes; send fewer events in one request.")
    stated = request.headers.get("content-length", "")
    if stated.isdecimal() and int(stated[:20]) > max_bytes:
        raise too_large
    chunks, size = [], 0
    try:
        async for chunk in request.stream():
            size += len(chunk)
            if size > max_bytes:
                raise too_large
            chunks.append(chunk)
    except ClientDisconnect as error:
        raise InvalidRequest("The connection ended before the body did.") from error
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
            stream = zstd.ZstdDecompressor(options=_ZSTD_OPTIONS)
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


def decode_body(data: bytes, *, content_type: str, max_lines: int = 1) -> Any:
    """JSON by default, a list of values for NDJSON. Numbers keep their digits. Raises InvalidRequest with the place.

    No more than one line over `max_lines` is decoded: enough to see that there are too many.
    """
    media_type = content_type.split(";", 1)[0].strip().lower()
    if media_type in _LINES_TYPES:
        lines = (line for line in BytesIO(data) if line.strip())
        return [_decode_line(line) for line in islice(lines, max_lines + 1)]
    if media_type not in _JSON_TYPES:
        raise UnsupportedMediaType(f"Content-Type `{media_type[:60]}` is not supported; send application/json.")
    try:
        return _decode(data)
    except ValueError as error:
        raise InvalidRequest(f"The body is not valid JSON: {error}.") from error
    except RecursionError as error:
        raise InvalidRequest("The body is nested too deeply; flatten it.") from error


def _decode_line(line: bytes) -> Any:
    try:
        return _decode(line)
    except ValueError as error:
        return MalformedLine(str(error))
    except RecursionError:
        return MalformedLine("nested too deeply")


def _decode(data: bytes) -> Any:
    """Strictly, or else leniently: so the one bad event among good ones can be named and refused alone."""
    problem: ValueError | RecursionError
    try:
        return exact_json.loads(data)
    except (ValueError, RecursionError) as error:
        problem = error
    data = data.removeprefix(_BYTE_ORDER_MARK)
    try:
        try:
            return exact_json.loads_leniently(data)
        except RecursionError:
            if len(data) > _MAX_PRUNED_BYTES:
                raise
            return exact_json.loads_leniently(_pruned(data))
    except ValueError:
        raise problem from None


def _pruned(data: bytes) -> bytes:
    """The text without what lies below `_KEPT_LEVELS`: still too deep to be accepted, no longer too deep to be read."""
    kept: list[bytes] = []
    depth = start = 0
    for found in _BRACKETS.finditer(data):
        opened, closed = found.groups()
        if opened:
            if depth <= _KEPT_LEVELS < depth + len(opened):
                kept.append(data[start : found.start() + _KEPT_LEVELS - depth])
            depth += len(opened)
        elif closed:
            if depth - len(closed) <= _KEPT_LEVELS < depth:
                kept.append(b"null")
                start = found.start() + depth - _KEPT_LEVELS
            depth -= len(closed)
    return b"".join((*kept, data[start:])) if depth == 0 else data

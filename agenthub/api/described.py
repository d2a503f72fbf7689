"""What the hub goes by in an HTTP request beside its body, whether it came in or is only described."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from types import MappingProxyType
from typing import Protocol

import attrs
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from agenthub.canonical import JSON
from agenthub.dialects import jsontext
from agenthub.errors import InvalidRequest, RequestError

_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_UNFIT = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_UNWRITTEN = re.compile(r"[\x00-\x1f\x7f]")
_MEMBERS = ("method", "path", "headers", "body")
MOST_FIELDS = 128
"""How many header fields a request may have."""
_MOST_PARTS = 64
_NOTHING: Mapping[str, str] = MappingProxyType({})


class HeadTooLarge(RequestError):
    """A line of the request's head is too long, or there are too many."""

    status = 431


def has_route_length(target: str) -> bool:
    """Say whether a path, which may have a query behind it, is one that may be routed.

    aiohttp looks for each of its parts in a copy of what stands before it, so that thousands of slashes are slow.
    """
    return target.count("/") <= _MOST_PARTS or target.partition("?")[0].count("/") <= _MOST_PARTS


class Head(Protocol):
    """The head of a request; aiohttp's is one."""

    @property
    def method(self) -> str: ...
    @property
    def path(self) -> str: ...
    @property
    def headers(self) -> CIMultiDictProxy[str]: ...
    @property
    def content_length(self) -> int | None: ...
    @property
    def match_info(self) -> Mapping[str, str]: ...


@attrs.frozen
class Described:
    """A request that nobody sent. ``match_info`` are the variables of its path, once its route is known."""

    method: str
    rel_url: URL
    headers: CIMultiDictProxy[str] = attrs.field(repr=False)
    body: bytes = attrs.field(default=b"", repr=False)
    match_info: Mapping[str, str] = _NOTHING

    @property
    def path(self) -> str:
        return self.rel_url.path

    @property
    def content_length(self) -> int | None:
        return len(self.body)

    async def stream(self) -> AsyncIterator[bytes]:
        """Yield the body."""
        yield self.body


def describe(method: str, path: str, headers: Mapping[str, str | list[str]], body: bytes) -> Described:
    """Return the request; raise InvalidRequest for what no HTTP request could be.

    ``headers`` may give several values to one name. A path may have a query, and be percent-encoded or not: what no
    request line may hold is.
    """
    if not _TOKEN.fullmatch(method):
        raise InvalidRequest("method must be an HTTP method, such as POST", param="method")
    if not path.startswith("/"):
        raise InvalidRequest("path must begin with a slash, as in /api/chat", param="path")
    found = CIMultiDict[str]()
    for name, values in headers.items():
        for value in values if isinstance(values, list) else [values]:
            if not _TOKEN.fullmatch(name) or not isinstance(value, str) or _UNFIT.search(value):
                raise InvalidRequest("headers must be an object of names and texts, or lists of texts", param="headers")
            found.add(name, value)
    try:
        url = URL("http://localhost" + _UNWRITTEN.sub(lambda found: f"%{ord(found[0]):02X}", path)).relative()
    except ValueError:
        raise InvalidRequest("path must be the path of a URL", param="path") from None
    return Described(method.upper(), url, CIMultiDictProxy(found), body)


def check_head(described: Described, most: int) -> None:
    """Raise HeadTooLarge for a head that no request may have; ``most`` is ``max_header_bytes``."""
    if len(described.headers) > MOST_FIELDS:
        raise HeadTooLarge(f"the request has more than {MOST_FIELDS} header fields")
    lines = (described.method + str(described.rel_url), *map("".join, described.headers.items()))
    if any(len(line) > most for line in lines):
        raise HeadTooLarge(f"a line of the request's head is longer than {most} bytes")


def parse_description(data: bytes, host: str) -> Described:
    """Return the request that a JSON object of method, path, headers and body describes; raise InvalidRequest.

    ``method`` is POST and ``headers`` are none where they are left out; ``host`` stands for a missing Host. A ``body``
    that is a text stands for its own bytes, any other JSON for the bytes in which it is written.
    """
    try:
        value = jsontext.loads(data)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise InvalidRequest("the body must be a JSON object of method, path, headers and body")
    for name in value:
        if name not in _MEMBERS:
            raise InvalidRequest(f"{name!r} is not one of {', '.join(_MEMBERS)}", param="body")
    for name in ("method", "path"):
        if not isinstance(value.get(name), str | None):
            raise InvalidRequest(f"{name} must be a text", param=name)
    headers = {} if value.get("headers") is None else value["headers"]
    if not isinstance(headers, dict):
        raise InvalidRequest("headers must be an object of names and texts, or lists of texts", param="headers")
    if not any(name.lower() == "host" for name in headers):
        headers = {**headers, "Host": host}
    return describe(value.get("method") or "POST", value.get("path") or "", headers, _bytes(data, value.get("body")))


def _bytes(data: bytes, body: JSON) -> bytes:
    if body is None:
        return b""
    if isinstance(body, str):
        return body.encode("utf-8", "surrogatepass")
    return jsontext.get_top_level(data, "body")

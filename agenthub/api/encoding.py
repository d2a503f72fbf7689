"""Content encoding: unpacks what a client sent compressed, in steps of a bounded size."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import attrs
from aiohttp.compression_utils import (
    HAS_BROTLI,
    HAS_ZSTD,
    BrotliDecompressor,
    ZLibDecompressor,
    ZSTDDecompressor,
)

if HAS_ZSTD and sys.version_info >= (3, 14):
    from compression import zstd
elif HAS_ZSTD:
    from backports import zstd

_FED_BYTES = 2**16
"""What is given to a decompressor at once: some copy what they have not yet used of it, again and again."""
STEP_BYTES = 2**18
"""What is unpacked at once, in a millisecond or two."""
_ZSTD_WINDOW_LOG = 23
"""8 MiB, which RFC 9659 allows at the most; a frame may ask for 128 MiB and more, and the library gives them."""


class CannotUnpack(ValueError):
    """The bytes are not what the encoding says, or need more memory than it may take."""


class _Zstd(ZSTDDecompressor):
    """aiohttp's, with a window that is bounded."""

    def _new_decompressor(self) -> zstd.ZstdDecompressor:
        return zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: _ZSTD_WINDOW_LOG})


def _deflate(start: bytes) -> ZLibDecompressor:
    # Some clients send deflate without the header of zlib, as browsers accept it.
    return ZLibDecompressor(encoding="deflate", suppress_deflate_header=start[0] & 0xF != 8)


_MAKERS: Mapping[str, Callable[[bytes], Any]] = {
    "gzip": lambda start: ZLibDecompressor(encoding="gzip"),
    "deflate": _deflate,
    **({"br": lambda start: BrotliDecompressor()} if HAS_BROTLI else {}),
    **({"zstd": lambda start: _Zstd()} if HAS_ZSTD else {}),
}
KNOWN = tuple(sorted(_MAKERS))
"""The encodings that can be unpacked here."""
COSTLY = frozenset({"br"})
"""Whose very first step may take 16 MiB and a tenth of a second, whatever size is asked for."""


@attrs.define
class Unpacker:
    """Unpacks one body in an ``encoding`` of KNOWN. What has been fed is to be taken to its end before more is fed."""

    encoding: str
    _decompressor: Any = None

    def feed(self, packed: bytes) -> Iterator[bytes]:
        """Yield what it unpacks to, in pieces of STEP_BYTES at the most; raise CannotUnpack."""
        for start in range(0, len(packed), _FED_BYTES):
            yield from self._take(packed[start : start + _FED_BYTES])

    def _take(self, packed: bytes) -> Iterator[bytes]:
        if self._decompressor is None:
            self._decompressor = _MAKERS[self.encoding](packed)
        more = True
        while more:
            try:
                piece = self._decompressor.decompress_sync(packed, STEP_BYTES)
            except Exception as error:  # each library has its own
                raise CannotUnpack(str(error)) from error
            if piece:
                yield piece
            packed, more = b"", self._decompressor.data_available

    def close(self) -> None:
        """Raise CannotUnpack where the end is missing, as far as the encoding tells."""
        if self.encoding == "deflate" and self._decompressor is not None and not self._decompressor.eof:
            raise CannotUnpack("the end is missing")

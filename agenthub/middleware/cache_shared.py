"""The cache's entries in Redis: how they become bytes, and what is believed of bytes that come from there."""

from __future__ import annotations

from aiocache.base import BaseCache

from agenthub.canonical import Finished, Started
from agenthub.middleware.cache_entry import Entry, size_of
from agenthub.shared import Shared
from agenthub.shared.codec import Unreadable, decode, encode
from agenthub.shared.store import SharedCache


def make_shared_cache(memory: BaseCache, shared: Shared) -> BaseCache:
    """Return a cache that holds in ``memory`` what this replica needs, and in Redis what all of them may use."""
    store = SharedCache(memory, shared.link, dumps=dump_entry, loads=load_entry)
    shared.stores.add(store)
    return store


def dump_entry(entry: Entry) -> bytes:
    """Return an entry as bytes; ValueError for one that cannot be shared."""
    return encode(entry.batches, entry.offsets_s, entry.size_bytes, entry.is_counted)


def load_entry(data: bytes) -> Entry:
    """Return the entry that ``dump_entry`` made bytes of; Unreadable where that is no whole answer.

    What the bytes say of its size and of its counts is not believed but found out.
    """
    batches, offsets_s, _, _ = decode(data)
    finished = batches[-1][-1] if batches else None
    is_counted = isinstance(finished, Finished) and finished.usage is not None
    entry = Entry(batches, offsets_s, sum(map(size_of, batches)), is_counted)
    kinds = [type(event) for event in entry.batch]
    if not kinds or kinds[0] is not Started or kinds.count(Started) > 1:
        raise Unreadable("not an answer from its beginning")
    if kinds[-1] is not Finished or kinds.count(Finished) > 1:
        raise Unreadable("not an answer to its end")
    return entry

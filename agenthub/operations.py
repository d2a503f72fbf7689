"""The names of what a client may ask for, as rights are given in."""

from __future__ import annotations

ASKING = ("chat", "generate", "embed", "list", "show", "ps", "version")
MANAGING = ("pull", "push", "create", "copy", "delete", "blobs")
GROUPS = {"ask": frozenset(ASKING), "manage": frozenset(MANAGING), "all": frozenset(ASKING + MANAGING)}
"""Words that stand for several."""
WORDS = (*GROUPS, *ASKING, *MANAGING)


def meant(words: tuple[str, ...]) -> frozenset[str]:
    """Return the operations that words of ``WORDS`` stand for."""
    return frozenset().union(*(GROUPS.get(word, (word,)) for word in words))

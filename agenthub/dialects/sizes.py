"""Sizes: from which on JSON is too large to be parsed, rendered or freed at once."""

PIECE_BYTES = 2**16
LARGE_BYTES = 2**18
"""Above it a text is parsed in pieces, and beside the event loop: below, the worst request takes some 20 ms."""
MAX_DEPTH = 500
"""How many lists and objects may stand within each other: within what Python's JSON can render; Go stops at 10,000."""
HUGE_BYTES = 2**22
"""Above it what was parsed is rendered, hashed and freed bit by bit as well: below, each takes some 20 ms at most."""

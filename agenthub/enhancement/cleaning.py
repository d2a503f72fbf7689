"""Takes off an answer what is not the prompt: thoughts, words before it, a fence or quotes around all of it."""

from __future__ import annotations

import re
from collections.abc import Callable

_THOUGHTS = re.compile(r"<(think|thinking|reasoning)>.*?(?:</\1>|\Z)", re.IGNORECASE | re.DOTALL)
_THOUGHTS_END = re.compile(r".*?</(?:think|thinking|reasoning)>", re.IGNORECASE | re.DOTALL)
_BETTER = (
    r"(?:improved|enhanced|rewritten|re-written|revised|refined|rephrased|reworded|reformulated|clearer|clarified|polished|"
    r"optimi[sz]ed|updated|better|final|more\s+specific)"
)
_THING = r"(?:prompt|version|question|request|query|instructions?)"
_PREAMBLE = re.compile(
    r"(?:(?:sure|certainly|of\s+course|okay|ok|absolutely|yes)\b[^\n:.!]{0,40}[.!,:]?\s{1,8})?"
    r"[#*_>\s]{0,16}"
    rf"(?:here(?:['\u2019]s|\s+is|\s+are)\b[^\n:]{{0,60}}?\b(?:{_BETTER}\b|prompt\b)[^\n:]{{0,60}}"
    rf"|(?:the\s+|your\s+|my\s+)?{_BETTER}\s+(?:\w+\s+)??{_THING}(?:\s+of\s+(?:the|your|my)\s+(?:\w+\s+)?{_THING})?)"
    r"[*_]*\s*:[*_]*\s*",
    re.IGNORECASE,
)
_FENCE = re.compile(r"(`{3,}|~{3,})[^\n`]*")
_QUOTES = {'"': '"', "“": "”", "„": "“", "«": "»", "\u2018": "\u2019", "'": "'"}
_OPENERS = (*_QUOTES, "`", "~", "<")
_LONGEST_HEAD, _MOST_LOOKS = 320, 256
_MOST_LAYERS = 64
"""How often something is taken off, each time in a copy of the rest: nobody wraps a prompt so often."""
_FIRST_WORDS = re.compile(
    rf"[#*_>\s]*(?:sure|certainly|of|okay|ok|absolutely|yes|here\S*|the|your|my|more|{_BETTER})\b", re.IGNORECASE
)


def clean(text: str, original: str) -> str:
    """Return the prompt that an answer holds; what the ``original`` prompt had itself stays."""
    return _peeled(text, original, (_without_thoughts, _without_preamble, _without_fence, _without_quotes))


def _peeled(text: str, original: str, peels: tuple[Callable[[str], str], ...]) -> str:
    original = original.strip()
    peels = tuple([peel for peel in peels if peel(original) == original])
    text = text.strip()
    for _ in range(_MOST_LAYERS):
        before = text
        for peel in peels:
            text = peel(text).strip()
        if text == before:
            break
    return text


def _without_thoughts(text: str) -> str:
    found = _THOUGHTS.match(text)
    if found is None and "</" in text:
        # Some templates open the thoughts themselves, so that the answer only closes them.
        found = _THOUGHTS_END.match(text)
    return text[found.end() :] if found is not None else text


def _without_preamble(text: str) -> str:
    found = _PREAMBLE.match(text, 0, _LONGEST_HEAD)  # with a long run of blanks it would be slow
    return text[found.end() :] if found is not None and found.end() < len(text) else text


def _without_fence(text: str) -> str:
    first, *lines = text.split("\n")
    found = _FENCE.fullmatch(first.rstrip())
    if found is None or not lines:
        return text
    depth, mark = 1, found[1]
    for number, line in enumerate(map(str.strip, lines), 1):
        if line == mark:
            depth -= 1
        elif line.startswith(mark) and _FENCE.fullmatch(line):
            depth += 1
        if not depth:
            # A fence that ends earlier is a part of the prompt.
            return "\n".join(lines[:-1]) if number == len(lines) else text
    return text


def _without_quotes(text: str) -> str:
    if len(text) < 2 or _QUOTES.get(text[0]) != text[-1]:
        return text
    inside = text[1:-1]
    return text if text[0] in inside or text[-1] in inside else inside


class Settling:
    """Answers as they come: tells the part of each that no later piece can take off again.

    ``given`` is what was told so far; it begins the cleaned answer, but where that closes thoughts it never opened.
    Once something was told a piece costs no more than its own length, however long the answer is by then.
    """

    def __init__(self, original: str) -> None:
        self._original = original
        self._pieces: list[str] = []
        self._told: list[str] = []
        self._blanks: list[str] = []
        self._has_begun = False
        self._waits = False
        self._looks = 0

    @property
    def given(self) -> str:
        return "".join(self._told)

    def feed(self, piece: str) -> str:
        """Return what can be told after one more piece."""
        self._pieces.append(piece)
        if self._has_begun:
            return self._tell(piece)
        if self._looks < _MOST_LOOKS and not (self._waits and ">" not in piece):
            self._looks += 1
            text = "".join(self._pieces)
            start = self._find_start(text)
            if start is not None:
                self._has_begun = True
                return self._tell(text[start:])
        return ""

    def close(self) -> str:
        """Return what is left to tell of the whole answer."""
        whole, given = clean("".join(self._pieces), self._original), self.given
        if not whole.startswith(given):
            return ""
        self._told.append(whole[len(given) :])
        return self._told[-1]

    def _tell(self, text: str) -> str:
        """Return the text behind the blanks that were held back before it, without those at its end."""
        settled = text.rstrip()
        if not settled:
            self._blanks.append(text)
            return ""
        told = "".join((*self._blanks, settled))
        self._blanks = [text[len(settled) :]]
        self._told.append(told)
        return told

    def _find_start(self, text: str) -> int | None:
        """Return where in ``text`` the prompt begins, None as long as that may change."""
        head = _peeled(text, self._original, (_without_thoughts, _without_preamble))
        # Thoughts go on, or something is open that only the end can close: no need to look at each piece.
        self._waits = head.startswith(_OPENERS) or (not head and bool(text.strip()))
        first, _, rest = head.partition(" ")
        if not rest or first.startswith(_OPENERS):
            return None
        if len(head) < _LONGEST_HEAD and _FIRST_WORDS.match(head):
            return None
        return len(text.rstrip()) - len(head)

"""Complaints: what an error of a server says about the members of the request that it was sent.

The text of an error repeats words of the client: its prompt, the name of a tool, a key of ``logit_bias``. These must
not be read as the server's own. So the values that were sent and all that is quoted, but for names of members, are
taken out, and a member counts as unsupported only where the words that say so are bound to its name.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Collection, Iterator, Mapping
from functools import lru_cache
from itertools import islice

import attrs

from agenthub.canonical import JSON

_LOC = re.compile(r"""["']loc\\*["']\s*:\s*[\[(]([^\])]{1,300})""")
_SPACES = re.compile(r"\s+")
_WORDS = re.compile(r"[\w-]+")
_BRACKET = re.compile(r"[\[{]")
_SAYING = ("message", "msg", "error", "errors", "detail", "reason", "description")
_MOST_MISSES, _MOST_PARTS, _DEEPEST, _MOST_LEAVES = 4, 64, 6, 1000
_LARGEST = 1e300
_DECODER = json.JSONDecoder()

_GONE, _NAME = "\x01", "\x02"
"""What stands in a text for the client's words, and for the name of the member."""
_QUOTED = re.compile(r"""(?<!\w)(["'`])((?:\\.|(?!\1)[^\\])*)\1(?!\w)""")
_NUMBER = re.compile(r"(?<![\w.-])[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?(?!\w|\.\d)")
_TOKEN = re.compile(r"""[^\s"'`,;:()\[\]{}\x01]+""")
_GRAMMAR = frozenset({"type", "function", "name"})
"""The words of which a ``tool_choice`` is made."""

_NOUN = r"(?:parameters?|arguments?|fields?|propert(?:y|ies)|options?|params?|keys?|members?|inputs?|kwargs?|features?)"
_KIND = r"(?:(?:request|body|input|extra|additional|keyword|query|model|json|sampling|top-level)\s+)*"
_ADVERB = r"(?:(?:currently|yet|at all|longer|also)\s+)*"
_BAD = r"(?:unsupported|unrecogni[sz]ed|unknown|unexpected|unavailable|deprecated|disallowed|forbidden|extra_forbidden)"
_DONE = r"(?:supported|permitted|allowed|recogni[sz]ed|implemented|accepted|taken|known|available)"
_DO = r"(?:support|permit|allow|recogni[sz]e|implement|accept|take|know)s?"
_NOT = rf"(?:not|n't|cannot|no)\s+{_ADVERB}(?:be\s+)?{_ADVERB}"
_TYPE = r"(?:(?:parameter|argument|field|property|option|param)\b\s*)?"
_Q = r"[\"'`]*"
_END = rf"(?={_Q}\s*(?:[.,;:!)\]}}\n]|$|(?:by|for|with|in|on|at|and|or|when|while|if|unless|yet|is|are)\b|{_NOUN}\b))"
_PARAMETER = re.compile(
    rf"\b{_BAD}\s+{_KIND}(?:{_NOUN}|name)(?:\s+(?:supplied|provided|given|found|name))?\s*[:=(\[-]*\s*{_Q}{_NAME}"
    rf"|\b{_BAD}\s*:?\s*{_Q}{_NAME}{_END}"
    rf"|\b{_NOT}{_DONE}\b[^.:\n]{{0,40}}:\s*[\[(]*{_Q}{_NAME}{_END}"
    rf"|{_NOT}{_DO}\s+(?:(?:the|use of|using|setting|custom|any)\s+)*{_KIND}(?:{_NOUN}\s*)?:?\s*{_Q}{_NAME}{_END}"
    rf"|{_NAME}{_Q}\s*{_TYPE}[:,)-]*\s*(?:(?:is|are|was|were|has|been)(?:(?=n't)|\b\s*))*{_ADVERB}"
    rf"(?:{_BAD}|{_NOT}{_DONE}|(?:extra|additional)\s+{_NOUN}\s+(?:(?:is|are)\s+)?not\s+{_DONE}){_END}",
    re.IGNORECASE,
)
"""What binds words of refusal to the name, before it or after it."""
_THIS_PARAMETER = re.compile(
    rf"\b{_BAD}\s+{_KIND}{_NOUN}\b|\b(?:extra|additional)\s+{_NOUN}\s+(?:are\s+)?not\s+{_DONE}"
    rf"|^\s*(?:this\s+)?{_NOUN}?\s*(?:is\s+)?not\s+{_DONE}",
    re.IGNORECASE,
)
"""The same where ``param`` gives the name."""
_COMPARISON = re.compile(
    r"\b(?:above|below|over|than|ranges?|at most|at least|max|min|maximum|minimum|between|exceed\w*|greater|less|fewer"
    r"|limit\w*|large|larger|small|smaller|up to|within|out of|values?|levels?|must be|one of|expected)\b"
    r"|(?<!\.)\.\.(?!\.)|[<>≤≥]=?\s*-?\d",
    re.IGNORECASE,
)


@attrs.frozen
class Place:
    """Where an error of pydantic's is, and of which kind; ``""`` where that cannot be read."""

    steps: tuple[str, ...]
    kind: str = ""


@attrs.frozen
class Complaint:
    """What a server says: its sentences, and the places of a structure where the error has one."""

    text: str
    places: tuple[Place, ...] = ()


@attrs.frozen
class Finding:
    """What a complaint says about one member.

    ``is_parameter``: that it is not supported at all. ``repeats``: its value. ``compares``: values with each other.
    """

    is_parameter: bool
    repeats: bool
    compares: bool


def steps_of(path: str) -> tuple[str, ...]:
    """Return the steps of a path in any notation."""
    return tuple([step for step in _WORDS.findall(path) if step != "body"])


def read_complaint(text: str) -> Complaint:
    """Return what an error's text says, without what it repeats of the request as JSON or as Python prints it."""
    text = _SPACES.sub(lambda match: "\n" if "\n" in match[0] else " ", text)
    places: list[Place] = []
    said: list[str] = []
    values, rest = _embedded(text)
    said.append(rest)
    for value in values:
        _collect(value, places, said, _DEEPEST)
    if not values:
        places = [Place(steps_of(found)) for found in _LOC.findall(text)]
    return Complaint("\n".join(said), tuple(places))


def _embedded(text: str) -> tuple[list[JSON], str]:
    """Return the objects that a text contains, and the text without them; of one that is cut those before the cut."""
    found: list[JSON] = []
    rest: list[str] = []
    kept = position = misses = 0
    while len(found) < _MOST_PARTS and (match := _BRACKET.search(text, position)):
        try:
            value, end = _DECODER.raw_decode(text, match.start())
        except (ValueError, RecursionError):
            misses += 1
            if found or misses > _MOST_MISSES:
                break  # what follows a cut may be the client's
            position = match.end()
            continue
        position = end
        if isinstance(value, dict) or (isinstance(value, list) and any(isinstance(one, dict) for one in value)):
            found.append(value)
            rest.append(text[kept : match.start()])
            kept = end
    if not found and _LOC.search(text):
        found = [value for line in text.splitlines()[:8] if (value := _python_in(line)) is not None]
        return found, "" if found else text
    return found, " ".join([*rest, text[kept:]])


def _python_in(line: str) -> JSON:
    start, end = _BRACKET.search(line), max(line.rfind("]"), line.rfind("}"))
    if start is None or end < start.start():
        return None
    try:
        value: JSON = ast.literal_eval(line[start.start() : end + 1])
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return None
    return value if isinstance(value, dict | list) else None


def _collect(value: object, places: list[Place], said: list[str], depth: int) -> None:
    if depth == 0:
        return
    if isinstance(value, str):
        values, rest = _embedded(value)
        said.append(rest)
        for one in values:
            _collect(one, places, said, depth - 1)
    elif isinstance(value, list):
        for one in value[:_MOST_PARTS]:
            _collect(one, places, said, depth - 1)
    elif isinstance(value, dict):
        if isinstance(loc := value.get("loc"), list | tuple):
            kind = value.get("type")
            steps = tuple([str(step) for step in loc if step != "body"])
            places.append(Place(steps, kind if isinstance(kind, str) else ""))
        for key in _SAYING:
            _collect(value.get(key), places, said, depth - 1)


@lru_cache
def mention(name: str) -> re.Pattern[str]:
    """Return what finds the name in a text, in camel case too, but not in a request that is repeated there."""
    own = name.rpartition(".")[2]
    first, *others = own.split("_")
    spelled = f"(?:{own}|{first}{''.join(map(str.capitalize, others))})"
    before = r"(?<=[\"'`.])" if own == "reasoning" else r"(?<!\w)"
    echo = r"(?!\\*[\"']\s*:\s*(?:\\*[\"'\[{\d-]|true|false|null|True|False|None))"
    return re.compile(rf"{before}{spelled}(?!\w){echo}")


def without_quotes(text: str, names: Collection[str]) -> str:
    """Return the text without what is quoted in it, but for the names of members."""

    def replaced(match: re.Match[str]) -> str:
        steps = steps_of(match[2])
        is_path = bool(steps) and not re.search(r"\s", match[2])
        is_name = is_path and any(
            steps[0] == name or mention(name).fullmatch(f"{match[1]}{steps[-1]}", 1) for name in names
        )
        return match[0] if is_name else _GONE

    return _QUOTED.sub(replaced, text)


def examine(complaint: Complaint, name: str, values: Collection[JSON], names: Collection[str]) -> Finding:
    """Return what is said about the member ``name``, which was sent with these ``values`` among members ``names``."""
    text, repeats = _without_values(complaint.text, values)
    text = mention(name).sub(_NAME, without_quotes(text, names))
    is_parameter = _PARAMETER.search(text) is not None
    return Finding(is_parameter, repeats, _COMPARISON.search(text) is not None)


def says_parameter(complaint: Complaint, names: Collection[str]) -> bool:
    """Say whether it calls the parameter, which is named elsewhere, unsupported."""
    return _THIS_PARAMETER.search(without_quotes(complaint.text, names)) is not None


def _without_values(text: str, values: Collection[JSON]) -> tuple[str, bool]:
    """Return the text without the values, and whether it had any of them; of very many it is taken to have some."""
    texts, numbers = set[str](), set[str]()
    leaves = list(islice(_leaves(values), _MOST_LEAVES + 1))
    if len(leaves) > _MOST_LEAVES:
        return text, True
    for leaf in leaves:
        if isinstance(leaf, str) and 0 < len(leaf) <= len(text):
            texts.add(leaf.lower())
        elif isinstance(leaf, int | float) and not isinstance(leaf, bool) and abs(leaf) < _LARGEST:
            numbers.add(f"{leaf:.6g}")
    texts -= _GRAMMAR
    repeats = any(f"{float(match[0]):.6g}" in numbers for match in _NUMBER.finditer(text))
    lower, before = text.lower(), text
    for leaf in [one for one in texts if one in lower and one.strip() and not _TOKEN.fullmatch(one)]:
        text = re.sub(re.escape(leaf), _GONE, text, flags=re.IGNORECASE)
    text = _TOKEN.sub(lambda match: _GONE if match[0].rstrip(".!?").lower() in texts else match[0], text)
    return text, repeats or text != before


def _leaves(value: object) -> Iterator[object]:
    """Yield the keys and the single values of what may be nested."""
    rest = [value]
    while rest:
        one = rest.pop()
        if isinstance(one, Mapping):
            rest += [*one, *one.values()]
        elif isinstance(one, list | tuple):
            rest += one
        else:
            yield one

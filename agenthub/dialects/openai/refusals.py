"""Refusals: members of a translated request that a server does not take, and what is sent instead.

A server names the member in ``param``, in pydantic's ``loc`` or in its text. Members of which name or value are the
hub's own (``MADE``) are refused by whatever error names them. Of the others, whose values are the client's, only an
error counts that says that they are not supported: a temperature of 9 is for its client to correct.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache

import attrs

from agenthub.canonical import JSON
from agenthub.dialects.ledger import TO_OPENAI, Treatment
from agenthub.errors import UpstreamStatus

JSON_OBJECT: JSON = {"type": "json_object"}
ANY_OBJECT: JSON = {"type": "json_schema", "json_schema": {"name": "object", "schema": {"type": "object"}}}
"""What ``json_object`` means, in the words of servers that take schemas only (LM Studio)."""

MADE = frozenset(
    {
        "stream_options",
        "encoding_format",
        "reasoning_effort",
        "chat_template_kwargs",
        "response_format",
        "messages.reasoning",
        "messages.reasoning_content",
    }
)
_LIMITS = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}
"""Two names of one member. It is never left out, since then an answer might not end."""
_EFFORTS = {"max": "xhigh", "xhigh": "high"}
_FORMAT = "response_format"

_STATUSES = frozenset({400, 422, 501})
_CODES = frozenset({"400", "422"})
_LOC = re.compile(r"""["']loc\\*["']\s*:\s*[\[(]([^\])]{1,300})""")
_WORDS = re.compile(r"[\w-]+")
_UNSUPPORTED = re.compile(
    r"unsupported|unrecogni[sz]ed|unknown|unexpected|unavailable|deprecated|extra_forbidden|extra fields"
    r"|additional propert"
    r"|(?:not|n't|cannot be) (?:be )?(?:support|permit|allow|recogni|implement|accept|take|known|available)",
    re.IGNORECASE,
)
_ONLY = re.compile(
    r"\bonly (?:the )?(?:default )?\(?(-?\d+(?:\.\d+)?)?\)?\s*(?:value )?(?:is|are) (?:supported|allowed)",
    re.IGNORECASE,
)
_OF_VALUE = re.compile(r"\bvalues?\b|\blevels?\b|must be|one of|\bexpected", re.IGNORECASE)
_OF_PROMPT = re.compile(r"contain the word", re.IGNORECASE)
"""OpenAI and DeepSeek take ``json_object`` only where a message holds the word JSON, so the next may be taken."""


def _fields() -> dict[str, str]:
    """Return the client's field for each member that may be left out, empty where nothing is lost with it."""
    found = {"stream_options": "", "encoding_format": "", _FORMAT: "format"}
    found |= {"reasoning_effort": "think", "chat_template_kwargs": "think"}
    found |= {name: name for name in ("logprobs", "top_logprobs", "logit_bias", "tool_choice", "parallel_tool_calls")}
    found |= {name: "messages.thinking" for name in MADE if name.startswith("messages.")}
    for row in TO_OPENAI.rows:
        homes = [(row.treatment, row.home), *row.flavours.values()]
        if row.field.startswith("options.") and row.field != "options.stop":
            found |= {home: row.field for treatment, home in homes if treatment is Treatment.CARRIED}
    return found


FIELDS: Mapping[str, str] = _fields()


@attrs.frozen
class Refusal:
    """A member that a server refuses with this ``value``, or with any (``is_any``) but the one that is ``taken``.

    Its value goes into the member ``renamed``, or it gets the value ``instead``; with neither it is left out.
    ``is_lasting`` is false where another request may be taken.
    """

    member: str
    value: JSON = None
    is_any: bool = False
    taken: float | None = None
    renamed: str = ""
    instead: JSON = None
    is_lasting: bool = True

    def covers(self, members: Mapping[str, JSON]) -> bool:
        """Say whether it is about one of these members."""
        if self.member not in members:
            return False
        value = members[self.member]
        return bool(value != self.taken if self.is_any else value == self.value)


def respell(members: Mapping[str, JSON], refusals: Sequence[Refusal]) -> tuple[dict[str, JSON], dict[str, str]]:
    """Return the members as the server takes them, and the fields that are lost by it, with the members refused."""
    spelled, lost, rest = dict(members), dict[str, str](), list(refusals)
    while (refusal := next((one for one in rest if one.covers(spelled)), None)) is not None:
        rest.remove(refusal)
        member = refusal.member
        value = spelled.pop(member)
        if refusal.renamed:
            spelled[refusal.renamed] = value
        elif refusal.instead is not None:
            spelled[member] = refusal.instead
        elif FIELDS[member]:
            lost[FIELDS[member]] = member
        if member == "logprobs" and spelled.pop("top_logprobs", None) is not None:
            lost["top_logprobs"] = member  # which has no meaning without
        if refusal.instead == "high":
            lost["think"] = member  # less than was asked for
    return spelled, lost


def find_refusals(error: UpstreamStatus, members: Mapping[str, JSON], known: Sequence[Refusal]) -> list[Refusal]:
    """Return what the server refuses of the ``members`` that it was sent, none where something else is wrong."""
    if not (error.status in _STATUSES or error.callers_fault or error.code in _CODES):
        return []
    text = str(error)
    sent = {name: value for name, value in members.items() if name in FIELDS and _is_word(name, value)}
    found = [_refusal(name, sent[name], error, text) for name in _named(error, text, sent)]
    refused = {one.member for one in known}
    return [one for one in found if one is not None and not (one.renamed and one.renamed in refused | members.keys())]


def _is_word(name: str, value: JSON) -> bool:
    # A schema is the client's own, and an answer in another form is none.
    return name != _FORMAT or value in (JSON_OBJECT, ANY_OBJECT)


def _named(error: UpstreamStatus, text: str, sent: Mapping[str, JSON]) -> list[str]:
    """Return the members that the error is about: those of its structure, else the first that its text mentions."""
    if error.param and (name := _member(error.param)) in sent:
        return [name]
    if places := _LOC.findall(text):
        # The rest of such a text may be the request itself.
        return [name for name in dict.fromkeys(map(_member, places)) if name in sent]
    mentions = [(match.start(), name) for name in sent if (match := _mention(name).search(text))]
    return [min(mentions)[1]] if mentions else []


def _member(path: str) -> str:
    """Return the member at a path in any notation, without numbers: in a message that of the message."""
    steps = [step for step in _WORDS.findall(path) if step != "body"] or [""]
    return f"messages.{steps[-1]}" if steps[0] == "messages" and len(steps) > 1 else steps[0]


@lru_cache
def _mention(name: str) -> re.Pattern[str]:
    """Return what finds the name in a text, in camel case too, but not in a request that is repeated there."""
    own = name.rpartition(".")[2]
    first, *others = own.split("_")
    spelled = f"(?:{own}|{first}{''.join(map(str.capitalize, others))})"
    before = r"(?<=[\"'`.])" if own == "reasoning" else r"(?<!\w)"
    echo = r"(?!\\*[\"']\s*:\s*(?:\\*[\"'\[{\d-]|true|false|null|True|False|None))"
    return re.compile(rf"{before}{spelled}(?!\w){echo}")


def _refusal(name: str, value: JSON, error: UpstreamStatus, text: str) -> Refusal | None:
    only = _ONLY.search(text)
    is_unsupported = only is not None or _UNSUPPORTED.search(f"{error.code} {text}") is not None
    if not (is_unsupported or name in MADE):
        return None
    if name in _LIMITS:
        return Refusal(name, is_any=True, renamed=_LIMITS[name])
    if name == _FORMAT:
        lasting = _OF_PROMPT.search(text) is None
        return Refusal(name, value, instead=ANY_OBJECT if value == JSON_OBJECT else None, is_lasting=lasting)
    if only is not None:
        return Refusal(name, is_any=True, taken=float(only[1]) if only[1] else None)
    if is_unsupported and error.code != "unsupported_value" and not _OF_VALUE.search(text):
        return Refusal(name, is_any=True)
    instead = _EFFORTS.get(value) if name == "reasoning_effort" else None
    return Refusal(name, value, instead="high" if instead == "xhigh" and "xhigh" not in text else instead)

"""Refusals: members of a translated request that a server does not take, and what is sent instead.

A server names the member in ``param``, in pydantic's ``loc`` or in its text. Members of which name or value are the
hub's own (``MADE``) are refused by whatever error names them. Of the others, whose values are the client's, only an
error counts that calls the parameter itself unsupported: a temperature of 9 is for its client to correct. An error
that repeats the value, or that compares, is about the value.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import attrs

from agenthub.canonical import JSON
from agenthub.dialects.ledger import TO_OPENAI, Treatment
from agenthub.dialects.openai import complaints
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
_OF_PARAMETER = frozenset({"unsupported_parameter", "unknown_parameter"})
_OF_VALUE = "unsupported_value"
_EXTRA = frozenset({"extra_forbidden", "value_error.extra"})
_ONLY = re.compile(
    r"\bonly (?:the )?(?:default )?\(?(-?\d{1,9}(?:\.\d{1,9})?)\)?\s*(?:value )?is (?:supported|allowed)"
    r"|\bonly (?:the )?default (?:values? )?(?:is|are) (?:supported|allowed)",
    re.IGNORECASE,
)
_FAR = 200
_CONDITION = re.compile(
    r"\b(?:when|while|if|unless|until|because|together|combin\w+|conjunction|at the same time)\b"
    r"|\bwith (?:the |function )?(?:tools?|stream\w*|thinking|reasoning|images?|logprobs)\b|\btools\b",
    re.IGNORECASE,
)
"""Where the member is refused beside something else of the same request only."""
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
    ``is_lasting`` is false where another request may be taken. ``is_sure`` is false where only the words of the error
    say it: then it takes two different values (``seen`` is the one that was sent) to believe it of every request.
    """

    member: str
    value: JSON = None
    is_any: bool = False
    taken: float | None = None
    renamed: str = ""
    instead: JSON = None
    is_lasting: bool = True
    is_sure: bool = attrs.field(default=True, eq=False)
    seen: JSON = attrs.field(default=None, eq=False)

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
    sent = {name: value for name, value in members.items() if name in FIELDS and _is_word(name, value)}
    found = _found(error, complaints.read_complaint(str(error)), sent)
    refused = {one.member for one in known}
    return [one for one in found if not (one.renamed and one.renamed in refused | members.keys())]


def _is_word(name: str, value: JSON) -> bool:
    # A schema is the client's own, and an answer in another form is none.
    return name != _FORMAT or value in (JSON_OBJECT, ANY_OBJECT)


def _found(error: UpstreamStatus, complaint: complaints.Complaint, sent: Mapping[str, JSON]) -> list[Refusal]:
    """Return what the error refuses: what its structure names, else the first that its text does."""
    path = complaints.steps_of(error.param or "")
    if _member(path) in sent:
        name = _exact(path)
        one = _refusal(_Case(name, sent, error, complaint, is_named=True)) if name else None
        return [] if one is None else [one]
    if complaint.places:
        kinds = {name: place.kind for place in complaint.places if (name := _exact(place.steps)) in sent}
        cases = [_Case(name, sent, error, complaint, is_extra=kind in _EXTRA) for name, kind in kinds.items()]
        return [one for one in map(_refusal, cases) if one is not None]
    return _mentioned(error, complaint, sent)


def _mentioned(error: UpstreamStatus, complaint: complaints.Complaint, sent: Mapping[str, JSON]) -> list[Refusal]:
    text = complaints.without_quotes(complaint.text, sent)
    mentions = sorted((match.start(), name) for name in sent if (match := complaints.mention(name).search(text)))
    is_elsewhere = bool(error.param and complaints.steps_of(error.param))
    for index, (_, name) in enumerate(mentions):
        if index if name in MADE else is_elsewhere:
            continue
        if (one := _refusal(_Case(name, sent, error, complaint))) is not None:
            return [one]
    return []


def _member(steps: Sequence[str]) -> str:
    """Return the member at a path, without numbers: in a message that of the message."""
    if not steps:
        return ""
    return f"messages.{steps[-1]}" if steps[0] == "messages" and len(steps) > 1 else steps[0]


def _exact(steps: Sequence[str]) -> str:
    """Return the member at a path that ends at it: what is inside of a client's value is not the member."""
    name = _member(steps)
    return name if name in MADE or tuple(steps) == (name,) else ""


@attrs.frozen
class _Case:
    """A member that an error is about: ``is_named`` by ``param``, or ``is_extra`` by its place in a structure."""

    name: str
    sent: Mapping[str, JSON]
    error: UpstreamStatus
    complaint: complaints.Complaint
    is_named: bool = False
    is_extra: bool = False

    @property
    def value(self) -> JSON:
        return self.sent[self.name]

    @property
    def is_sure(self) -> bool:
        """Say whether more than words tell that the server does not support it."""
        return self.is_extra or self.error.code in _OF_PARAMETER or self.is_named


def _refusal(case: _Case) -> Refusal | None:
    name, value, error = case.name, case.value, case.error
    values = [value, case.sent.get("top_logprobs")] if name == "logprobs" else [value]
    finding = complaints.examine(case.complaint, name, values, case.sent)
    is_coded = error.code in _OF_PARAMETER and (case.is_named or finding.is_parameter)
    is_parameter = finding.is_parameter or (case.is_named and complaints.says_parameter(case.complaint, case.sent))
    is_value = finding.repeats or finding.compares or error.code == _OF_VALUE
    is_any = case.is_extra or is_coded or (is_parameter and not is_value)
    is_lasting = not FIELDS[name] or case.is_extra or _CONDITION.search(case.complaint.text) is None
    if name in MADE:
        return _refusal_of_made(case, is_any=is_any, is_lasting=is_lasting)
    more = {"is_lasting": is_lasting, "is_sure": case.is_sure, "seen": value}
    if name in _LIMITS:
        return Refusal(name, is_any=True, renamed=_LIMITS[name], **more) if is_any else None
    if (only := _only(case)) is not None:
        return attrs.evolve(only, is_lasting=is_lasting)
    if is_any:
        return Refusal(name, is_any=True, **more)
    if isinstance(value, bool) and (is_parameter or (case.is_named and error.code == _OF_VALUE)):
        return Refusal(name, value, **more)
    return None


def _only(case: _Case) -> Refusal | None:
    """Return the refusal of each value but the server's own, as OpenAI's reasoning models say it."""
    text, value = complaints.without_quotes(case.complaint.text, case.sent), case.value
    if isinstance(value, bool) or not isinstance(value, int | float) or (match := _ONLY.search(text)) is None:
        return None
    starts = [found.start() for found in complaints.mention(case.name).finditer(text)]
    if not case.is_named and not any(abs(match.start() - start) <= _FAR for start in starts):
        return None
    taken = float(match[1]) if match[1] else None
    is_sure = case.is_named and case.error.code == _OF_VALUE
    return Refusal(case.name, is_any=True, taken=taken, is_sure=is_sure, seen=value)


def _refusal_of_made(case: _Case, *, is_any: bool, is_lasting: bool) -> Refusal:
    name, value, text = case.name, case.value, str(case.error)
    if name == _FORMAT:
        lasting = is_lasting and _OF_PROMPT.search(text) is None
        return Refusal(name, value, instead=ANY_OBJECT if value == JSON_OBJECT else None, is_lasting=lasting)
    if is_any:
        return Refusal(name, is_any=True, is_lasting=is_lasting)
    instead = _EFFORTS.get(str(value)) if name == "reasoning_effort" else None
    instead = "high" if instead == "xhigh" and "xhigh" not in text else instead
    return Refusal(name, value, instead=instead, is_lasting=is_lasting)

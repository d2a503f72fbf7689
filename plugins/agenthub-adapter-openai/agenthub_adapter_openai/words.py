"""Words of a translated request: those of the flavour, but for those that the server refuses for the model."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any

import attrs
import structlog

from agenthub import JSON, Batch, ChatRequest, InvalidRequest, Loss, Request, Started, Unsupported, UpstreamStatus
from agenthub.dialects import Codec, openai
from agenthub.dialects.ledger import TO_OPENAI
from agenthub.dialects.openai.refusals import ANY_OBJECT, JSON_OBJECT, Refusal, find_refusals, respell
from agenthub_adapter_openai.translated import translated

_MOST_MODELS, _MOST_OF_MODEL, _LONGEST_NAME, _SHOWN = 256, 32, 512, 500
_KEPT_S = 600.0
"""How long a refusal is believed: a server is updated, and what was read wrongly must not last."""
_LONGEST_VALUE, _LARGEST_VALUE, _MOST_OF_VALUE = 64, 2**64, 4
_MOST_REPEATS = 5
"""How often one request is asked again: some servers name what they refuse one at a time."""
_log = structlog.get_logger("agenthub")
_MEMBERS: Mapping[str, Callable[[Any, str], dict[str, JSON]]] = {
    module.PATH: module.render_members for module in (openai.chat, openai.completions, openai.embeddings)
}


@lru_cache
def codecs_for(flavour: str) -> Mapping[str, Codec]:
    """Return the codecs, by their paths, whose requests are in the words of that flavour."""
    return {path: _for_flavour(codec, flavour) for path, codec in openai.CODECS.items()}


def _for_flavour(codec: Codec, flavour: str) -> Codec:
    render_request = partial(codec.render_request, flavour=flavour)
    return attrs.evolve(
        codec, render_request=render_request, render_defaults=partial(codec.render_defaults, flavour=flavour)
    )


@attrs.define
class _Known:
    """What one model refuses, until a time; ``unsure`` are values of members that were refused by words only."""

    until: float
    refusals: tuple[Refusal, ...] = ()
    unsure: dict[str, JSON] = attrs.field(factory=dict)

    def confirms(self, refusal: Refusal) -> bool:
        """Say whether a refusal is to be believed: it is sure, or another value was refused before."""
        if refusal.is_sure:
            return True
        if not _is_small(refusal.seen):
            return False
        return bool(self.unsure.setdefault(refusal.member, refusal.seen) != refusal.seen)


@attrs.define
class RefusedWords:
    """Remembers what a backend refuses, by model, for ten minutes or until it fails: then another server may be there.

    Values of clients are kept only where they are short: what is remembered is bounded in bytes.
    """

    clock: Callable[[], float] = time.monotonic
    _by_model: dict[str, _Known] = attrs.field(factory=dict)

    def __bool__(self) -> bool:
        return bool(self._by_model)

    def of(self, model: str) -> tuple[Refusal, ...]:
        """Return what is known to be refused for a model."""
        known = self._by_model.get(model)
        if known is None:
            return ()
        if self.clock() >= known.until:
            self._by_model.pop(model, None)
            return ()
        return known.refusals

    def learn(self, model: str, refusals: Sequence[Refusal]) -> None:
        """An answer came without these."""
        lasting = [one for one in refusals if one.is_lasting and _is_small(one.value)]
        if not lasting or len(model) > _LONGEST_NAME:
            return
        before = self.of(model)
        known = self._by_model.pop(model, None) or _Known(self.clock() + _KEPT_S)
        new = [attrs.evolve(one, seen=None) for one in lasting if one not in before and known.confirms(one)]
        if new and not before:
            known.until = self.clock() + _KEPT_S
        known.refusals = (*before, *new)[-_MOST_OF_MODEL:]
        self._by_model[model] = known
        if len(self._by_model) > _MOST_MODELS:
            del self._by_model[next(iter(self._by_model))]

    def losses(self, request: Request, flavour: str) -> tuple[Loss, ...]:
        """Return what is known to be lost of a request that is translated."""
        if not (known := self.of(request.target)):
            return ()
        try:
            return Wording(*translated(request), flavour, known).lost
        except InvalidRequest:
            return ()  # the asking says it too

    def forget(self) -> None:
        """The server failed."""
        self._by_model.clear()


@attrs.define
class Wording:
    """One translated request for the endpoint at ``path``, in words that ``refusals`` does not rule out.

    ``lost`` are the fields that are left out of it. ``learned`` were found out by asking.
    """

    request: Request
    path: str
    flavour: str
    refusals: tuple[Refusal, ...] = ()
    learned: tuple[Refusal, ...] = ()
    lost: tuple[Loss, ...] = ()
    members: Mapping[str, JSON] = attrs.field(factory=dict)

    def __attrs_post_init__(self) -> None:
        self._spell()

    def _spell(self) -> None:
        members = _MEMBERS[self.path](self.request, self.flavour)
        if (thought := _thought_in(self.request, self.flavour)) is not None:
            members[thought] = True
        self.members, lost = respell(members, (*self.refusals, *self.learned))
        self.lost = tuple([_loss(field, member) for field, member in lost.items()])

    def simplify(self, error: UpstreamStatus) -> bool:
        """Leave out what the server refuses, or say it otherwise; False where something else is wrong."""
        known = (*self.refusals, *self.learned)
        found = [one for one in find_refusals(error, self.members, known) if one not in known]
        if not found:
            return False
        self.learned = (*self.learned, *found)
        self._spell()
        return True

    def render(self) -> bytes:
        """Return the body; raises Unsupported for a loss where the request is strict."""
        request = self.request
        if self.lost and request.strict:
            raise Unsupported(self.lost[0].reason, param=self.lost[0].field)
        thought = _thought_in(request, self.flavour)
        if isinstance(request, ChatRequest) and thought is not None and thought not in self.members:
            request = attrs.evolve(request, messages=tuple([attrs.evolve(m, reasoning="") for m in request.messages]))
        members = {name: value for name, value in self.members.items() if name != thought}
        codec = openai.CODECS[self.path]
        return codec.render_request(request, request.target, flavour=self.flavour, members=members)


@attrs.define
class Questions:
    """One translated request, as it is asked: again as often as the server refuses a word, within reason."""

    request: Request
    path: str
    flavour: str
    memory: RefusedWords
    backend: str
    known: tuple[Refusal, ...] = ()
    wording: Wording | None = None
    _repeats: int = 0

    def start(self) -> bytes:
        """Return the first body, without what is ``known`` to be refused; raises Unsupported."""
        self.wording = self._worded()
        return self.wording.render()

    def _worded(self) -> Wording:
        return Wording(self.request, self.path, self.flavour, self.known)

    def after(self, error: UpstreamStatus) -> bytes | None:
        """Return the body to ask with next; None where no other words would help. Raises Unsupported."""
        self._repeats += 1
        wording = self.wording = self.wording or self._worded()
        if self._repeats > _MOST_REPEATS or not wording.simplify(error):
            return None
        facts = {"model": wording.request.target[:_LONGEST_NAME], "error": str(error)[:_SHOWN]}
        refused = [one.member for one in wording.learned]
        _log.info("agenthub.words_refused", backend=self.backend, refused=refused, **facts)
        return wording.render()

    def opened(self, batch: Batch) -> Batch:
        """Return the first batch of the answer, with what it was asked without, which is what the server refuses."""
        wording, started = self.wording, batch[0]
        if wording is None:
            return batch
        if wording.learned:
            self.memory.learn(wording.request.target, wording.learned)
        if not (wording.lost and isinstance(started, Started)):
            return batch
        return (attrs.evolve(started, losses=(*started.losses, *wording.lost)), *batch[1:])


def _thought_in(request: Request, flavour: str) -> str | None:
    """Return the member of messages that holds what was thought, if there is one."""
    if not isinstance(request, ChatRequest) or not any(message.reasoning for message in request.messages):
        return None
    return TO_OPENAI.home("chat", "messages.thinking", True, flavour) or None


def _is_small(value: JSON) -> bool:
    """Say whether a value is short enough to keep: a single one, or an object of the hub's own."""
    if isinstance(value, str):
        return len(value) <= _LONGEST_VALUE
    if isinstance(value, int | float):
        return abs(value) < _LARGEST_VALUE
    if isinstance(value, dict):
        return value in (JSON_OBJECT, ANY_OBJECT) or (
            len(value) <= _MOST_OF_VALUE
            and all(len(name) <= _LONGEST_VALUE and isinstance(one, bool) for name, one in value.items())
        )
    return value is None


def _loss(field: str, member: str) -> Loss:
    carrier = "" if field == member else f": it refuses {member}"
    return Loss(field, reason=f"the server does not support {field} for this model{carrier}")

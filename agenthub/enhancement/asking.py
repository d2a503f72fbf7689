"""One question to one model: how would it put a prompt?"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import aclosing

import attrs

from agenthub.canonical import ChatRequest, Event, Finished, Message, TextDelta, Usage, assemble
from agenthub.dispatch import Dispatcher
from agenthub.enhancement.cleaning import Settling, clean
from agenthub.enhancement.rules import Rule
from agenthub.errors import DispatchError, UpstreamProtocol
from agenthub.middleware import Caller, Dispatch

Tell = Callable[[str], Awaitable[None]]
"""Is given each piece of a rewritten prompt that is settled."""
_CHARS_PER_TOKEN = 16
ENDLESS = "the model went on and on"


class Unfit(DispatchError):
    """The model answered, but with nothing that could stand for the prompt; ``is_kept`` says that the cache knew it."""

    def __init__(self, message: str, *, is_kept: bool) -> None:
        super().__init__(message)
        self.is_kept = is_kept


@attrs.frozen
class Question:
    """What is asked, of whatever model. ``caller`` is who asks: the client, by the hub."""

    prompt: str
    rule: Rule
    caller: Caller
    authorization: str = attrs.field(default="", repr=False)

    def to_request(self, model: str, *, stream: bool) -> ChatRequest:
        """Return the chat with that model."""
        rule = self.rule
        instructions = Message("system", rule.instructions(self.caller.client))
        return ChatRequest(
            model=model,
            stream=stream,
            messages=(instructions, Message("user", self.prompt)),
            options={"temperature": rule.temperature, "num_predict": rule.max_tokens},
            think=None if rule.think == "" else rule.think,
            authorization=self.authorization,
        )


@attrs.frozen
class Rewritten:
    """What was made of a prompt, by a ``model`` unless it was a plugin."""

    text: str
    model: str = ""
    is_cached: bool = False
    usage: Usage | None = None


async def ask_model(dispatcher: Dispatcher, question: Question, model: str, tell: Tell | None = None) -> Rewritten:
    """Return the prompt as ``model`` puts it; raises AgentHubError, Unfit for an answer that is no prompt.

    With ``tell`` the answer is streamed.
    """
    dispatch = await dispatcher.dispatch(question.to_request(model, stream=tell is not None), question.caller)
    dispatch.enhancing = question.rule.label
    events: list[Event] = []
    settling, most, size = Settling(question.prompt), question.rule.max_tokens * _CHARS_PER_TOKEN, 0
    async with aclosing(dispatcher.run(dispatch)) as batches:
        async for batch in batches:
            events += batch
            text = "".join([event.text for event in batch if isinstance(event, TextDelta)])
            # Not every server stops where it is told to.
            if (size := size + len(text)) > most:
                raise Unfit(ENDLESS, is_kept=False)
            if tell is not None and (told := settling.feed(text)):
                await tell(told)
            if type(batch[-1]) is Finished:
                dispatch.status = 200
            dispatch.sent(batch, 0)
    rewritten = _judge(question.prompt, dispatch, events)
    if tell is not None and (told := settling.close()):
        await tell(told)
    return rewritten


def _judge(prompt: str, dispatch: Dispatch, events: list[Event]) -> Rewritten:
    answer, is_kept = dispatch.answer or assemble(events), dispatch.cache == "hit"
    finished = answer.finished
    if finished is None:
        raise UpstreamProtocol("the upstream ended its answer too early")
    if finished.reason == "length":
        raise Unfit(ENDLESS, is_kept=is_kept)
    if answer.refusal:
        raise Unfit("the model refused", is_kept=is_kept)
    if not (text := clean(answer.text, prompt)):
        raise Unfit("the model answered nothing", is_kept=is_kept)
    return Rewritten(text, dispatch.request.model, is_kept, finished.usage)

"""The prompt in the body of a request, as the client wrote it: found, and replaced while all else keeps its bytes."""

from __future__ import annotations

import attrs

from agenthub.dialects import jsontext
from agenthub.dialects.jsontext import Span

CHAT = frozenset({"/api/chat", "/v1/chat/completions"})
GENERATE = frozenset({"/api/generate", "/v1/completions"})


@attrs.frozen
class Prompt:
    """The last text of the user's in a body, and where in the body's text its JSON stands."""

    text: str
    span: Span

    def replaced(self, body: bytes, text: str) -> bytes:
        """Return the body with ``text`` in its place."""
        whole, (start, end) = body.decode("utf-8"), self.span
        return (whole[:start] + jsontext.dump_text(text).decode("utf-8") + whole[end:]).encode("utf-8")


class NoPrompt(Exception):
    """There is no prompt that could be put otherwise; ``str()`` says why."""


def find_prompt(path: str, body: bytes) -> Prompt:
    """Return the prompt in a body that the endpoint at ``path`` takes; raises NoPrompt.

    Of a chat that is the text of the last user message, and where it has several parts the last of them.
    """
    try:
        text = body.decode("utf-8")
        return _find_in_chat(text) if path in CHAT else _find_in_generate(text)
    except ValueError:  # numbers of thousands of digits
        raise NoPrompt("the body is too strange") from None


def _find_in_chat(text: str) -> Prompt:
    messages = _member(text, 0, "messages")
    for start, _ in reversed(jsontext.items(text, messages[0]) if messages is not None else []):
        role = _member(text, start, "role")
        if role is not None and str(_value(text, role)).lower() == "user":
            content = _member(text, start, "content")
            return _find_in_content(text, content) if content is not None else _refuse("has no text")
    raise NoPrompt("there is no user message")


def _find_in_content(text: str, content: Span) -> Prompt:
    value = _value(text, content)
    if isinstance(value, str):
        return Prompt(value, content)
    for start, _ in reversed(jsontext.items(text, content[0]) if isinstance(value, list) else []):
        kind, said = (_member(text, start, name, exact=True) for name in ("type", "text"))
        if kind is not None and said is not None and _value(text, kind) == "text":
            value = _value(text, said)
            if isinstance(value, str):
                return Prompt(value, said)
    return _refuse("has no text")


def _find_in_generate(text: str) -> Prompt:
    for name, reason in (("raw", "the prompt is raw"), ("suffix", "the prompt has a suffix")):
        found = _member(text, 0, name)
        if found is not None and _value(text, found):
            raise NoPrompt(reason)
    prompt = _member(text, 0, "prompt")
    value = _value(text, prompt) if prompt is not None else None
    if isinstance(value, str) and prompt is not None:
        return Prompt(value, prompt)
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], str) and prompt is not None:
        return Prompt(value[0], jsontext.items(text, prompt[0])[0])
    raise NoPrompt("there are several prompts" if isinstance(value, list) and len(value) > 1 else "there is no text")


def _refuse(why: str) -> Prompt:
    raise NoPrompt(f"the last user message {why}")


def _member(text: str, start: int, name: str, *, exact: bool = False) -> Span | None:
    """Return the last member of that name, which clients write in any case unless it must be ``exact``."""
    members = jsontext.members(text, start)
    return next((span for key, span in reversed(members) if (key if exact else key.lower()) == name), None)


def _value(text: str, span: Span) -> object:
    value = jsontext.loads(text[slice(*span)].encode("utf-8"))
    # Lone surrogates are U+FFFD to Go, and would break whatever encodes the text later.
    return (
        value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace") if isinstance(value, str) else value
    )

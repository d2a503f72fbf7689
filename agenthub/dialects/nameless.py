"""Nameless tools: what makes an Ollama take all memory of its machine and die, found before anything is sent.

Ollama 0.9.3 looks for the names of the tools in what the model says, and finds an empty one again and again without
end. To its decoder a tool of any other kind is one without a name, such as OpenAI's ``{"type": "custom"}``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from agenthub.canonical import JSON, ChatRequest, Loss, Request

_FOLDED = str.maketrans({"ſ": "s", "K": "k"})  # noqa: RUF001 (which Go takes for these letters in the name of a member)
_REASON = "{} is missing or empty: an Ollama would take all memory of its machine and die of a tool without a name"


def nameless_tools(request: Request, *, any_server: bool = False) -> tuple[Loss, ...]:
    """Return the loss that refuses a chat whose tools are not all named functions; empty for any other request.

    With ``any_server`` the remedy for a server that is no Ollama is named too.
    """
    if not isinstance(request, ChatRequest):
        return ()
    sets = [request.tools] if request.tools else []
    sets += [value for name, value in request.extras.items() if not name.isascii() and _fold(name) == "tools"]
    member = "functions[{}].name" if request.functions else "tools[{}].function.name"
    for tools in sets:
        if (number := _first_nameless(tools)) is not None:
            field = member.format(number)
            remedy = '; if the backend is no Ollama, say which server it is: flavour = "openai"' if any_server else ""
            return (Loss(field, rejected=True, reason=_REASON.format(field) + remedy),)
    return ()


def _first_nameless(tools: JSON) -> int | None:
    if not isinstance(tools, Sequence) or isinstance(tools, str):
        return None
    return next((number for number, tool in enumerate(tools) if not _is_named(tool)), None)


def _is_named(tool: JSON) -> bool:
    """Say whether each function of the tool, should it have several in other spellings, has nothing but names."""
    functions = list(_members(tool, "function"))
    names = [list(_members(function, "name")) for function in functions]
    return bool(names) and all(found and all(isinstance(name, str) and name for name in found) for found in names)


def _members(value: JSON, wanted: str) -> Iterable[JSON]:
    # Go finds members in any case.
    return [item for name, item in value.items() if name.lower() == wanted] if isinstance(value, dict) else []


def _fold(name: str) -> str:
    return name.translate(_FOLDED).lower()

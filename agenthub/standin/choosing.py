"""Which of its tools a model calls: those that the prompt names, or else the one that the prompt's words fit best."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from .schemas import Clues, instance

_WORD = re.compile(r"[^\W\d_]+")
_STEM = 5
_SHORT = 4
_PLAIN = frozenset({"that", "this", "what", "with", "from", "tool", "using", "pleas", "value", "funct", "given"})
_NUMERIC = ("integer", "number")

Choice = tuple[str, object]
"""The name of a function and its arguments, an object."""


def named(tools: Sequence[Any], prompt: str) -> list[Choice]:
    """Call each function whose name stands anywhere in ``prompt``."""
    return [_call(one, Clues(prompt)) for one in _functions(tools) if one["name"] in prompt]


def chosen(tools: Sequence[Any], prompt: str, choice: object) -> list[Choice]:
    """Call what ``prompt`` asks for, with arguments out of its words.

    A function that it names is called, once for each ``name(`` in it; else the one that shares most words with it;
    else one that only needs numbers, if it has that many. ``choice`` is OpenAI's ``tool_choice``, obeyed.
    """
    functions = _functions(tools)
    if isinstance(choice, dict):
        only = (choice.get("function") or {}).get("name")
        functions = [one for one in functions if one["name"] == only]
    if not functions or choice == "none":
        return []
    found = _mentioned(functions, prompt) or _likely(functions, prompt)
    if not found and (choice == "required" or isinstance(choice, dict)):
        found = functions[:1]
    clues = Clues(prompt)
    return [_call(one, clues) for one in found]


def _functions(tools: Sequence[Any]) -> list[Mapping[str, Any]]:
    found = [tool.get("function") for tool in tools if isinstance(tool, dict)]
    return [one for one in found if isinstance(one, dict) and one.get("name")]


def _call(function: Mapping[str, Any], clues: Clues) -> Choice:
    return function["name"], instance(function.get("parameters") or {"type": "object"}, clues)


def _mentioned(functions: Sequence[Mapping[str, Any]], prompt: str) -> list[Mapping[str, Any]]:
    places = []
    for function in functions:
        word = rf"(?<!\w){re.escape(function['name'])}(?!\w)"
        calls = [match.start() for match in re.finditer(rf"{word}\(", prompt)]
        first = re.search(word, prompt)
        places += [(place, function) for place in calls or ([first.start()] if first else [])]
    return [function for _, function in sorted(places, key=lambda place: place[0])]


def _likely(functions: Sequence[Mapping[str, Any]], prompt: str) -> list[Mapping[str, Any]]:
    asked = _stems(prompt)
    scores = [len(asked & _stems(f"{one['name']} {one.get('description', '')}")) for one in functions]
    if best := max(scores):
        return [functions[scores.index(best)]]
    count = len(Clues(prompt).numbers)
    return [one for one in functions if 0 < _numbers(one) <= count][:1]


def _stems(text: str) -> set[str]:
    stems = {word.lower()[:_STEM] for word in _WORD.findall(text) if len(word) >= _SHORT}
    return stems - _PLAIN


def _numbers(function: Mapping[str, Any]) -> int:
    """Return how many numbers the function needs, 0 if it needs anything else."""
    parameters = function.get("parameters") or {}
    properties, required = parameters.get("properties") or {}, parameters.get("required") or ()
    kinds = [(properties.get(name) or {}).get("type") for name in required]
    return len(kinds) if all(kind in _NUMERIC for kind in kinds) else 0

"""Tools and the choice among them. Source: API reference "Create chat completion", ``tools``, ``functions``."""

from __future__ import annotations

from typing import Any

from agenthub.canonical import JSON, ChatRequest, Loss
from agenthub.dialects.body import Fields
from agenthub.dialects.ledger import TO_NATIVE

_FIELDS = {"tools", "tool_choice", "functions", "function_call", "parallel_tool_calls"}


def parse_tools(fields: Fields, losses: list[Loss]) -> dict[str, Any]:
    """Take what a request says of tools, as arguments of a ChatRequest; appends what no other API could be asked."""
    if not fields.values.keys() & _FIELDS:
        return {}
    tools, choice = fields.objects("tools", "api.Tool"), fields.take("tool_choice")
    functions, function = fields.objects("functions", "api.ToolFunction"), fields.take("function_call")
    deprecated = bool(functions) and not tools
    if deprecated:
        tools = tuple([{"type": "function", "function": one} for one in functions])
        choice = {"type": "function", "function": function} if isinstance(function, dict) else function
    asked = {
        "tools.custom": any(tool.get("type", "function") != "function" for tool in tools),
        "tools.function.strict": any(_is_strict(tool) for tool in tools),
        "tool_choice.custom": isinstance(choice, dict) and choice.get("type") == "custom",
    }
    found = (TO_NATIVE.loss("chat", field, True) for field, given in asked.items() if given)
    losses += [loss for loss in found if loss is not None]
    single = fields.choice("parallel_tool_calls") is False
    return {"tools": tools, "tool_choice": choice, "one_call": single, "functions": deprecated}


def _is_strict(tool: JSON) -> bool:
    function = tool.get("function")
    return isinstance(function, dict) and function.get("strict") is True


def render_tools(request: ChatRequest) -> dict[str, JSON]:
    """Return the members that say of tools what the request says."""
    body: dict[str, JSON] = {}
    if request.tools:
        body["tools"] = [{"type": "function", **tool} for tool in request.tools]
    if request.tool_choice is not None:
        body["tool_choice"] = request.tool_choice
    if request.one_call:
        body["parallel_tool_calls"] = False
    return body

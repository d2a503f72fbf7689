"""Tool choice: the tools that a model may call, and the call that it must make, for an API that has no such word."""

from __future__ import annotations

import re
from collections.abc import Sequence

import attrs

from agenthub.canonical import JSON, ChatRequest, Message, ToolCallDelta
from agenthub.dialects import jsontext
from agenthub.dialects.toolcalls import make_call_id

_ONE = "Call the function {name}: answer with the JSON object of its arguments and with nothing else. Its definition: "
_SEVERAL = (
    'Call one of these functions: answer with a JSON object of its name and its arguments, {"name": ..., "arguments": '
    "{...}}, and with nothing else. Their definitions: "
)

# No more than where an object begins: to look for its end from each place that might be one takes the square of them.
_FENCE = re.compile(r"```[a-zA-Z]*+\s*+(?=\{)")


def is_forced(request: ChatRequest) -> bool:
    """Say whether the model must call a tool."""
    choice = request.tool_choice
    if isinstance(choice, dict) and isinstance(choice.get("allowed_tools"), dict):
        choice = choice["allowed_tools"].get("mode")
    return choice not in (None, "auto", "none")


def offered_tools(request: ChatRequest) -> list[JSON]:
    """Return the tools that the model may choose from, in their own words but for ``strict``."""
    choice = request.tool_choice
    if choice == "none":
        return []
    tools = request.tools
    if isinstance(choice, dict):
        allowed = choice.get("allowed_tools")
        named = allowed.get("tools") if isinstance(allowed, dict) else [choice]
        names = {_name(tool) for tool in named} if isinstance(named, list) else set()
        tools = tuple([tool for tool in tools if _name(tool) in names])
    return [_unstrict(tool) for tool in tools]


def _function(tool: JSON) -> dict[str, JSON]:
    function = tool.get("function") if isinstance(tool, dict) else None
    return function if isinstance(function, dict) else {}


def _name(tool: JSON) -> str | None:
    name = _function(tool).get("name")
    return name if isinstance(name, str) else None


def _unstrict(tool: JSON) -> JSON:
    function = tool.get("function")
    if not isinstance(function, dict) or "strict" not in function:
        return tool
    return {**tool, "function": {name: value for name, value in function.items() if name != "strict"}}


def render_call_request(request: ChatRequest) -> ChatRequest:
    """Return the request for nothing but a call: for a text in the form of one, by a schema.

    The tools are told in a message, not as tools: Ollama would look for calls in the text, in the way of each model's
    template. A thought would have to have the form of the schema as well, so that there is none.
    """
    tools = offered_tools(request)
    functions = [_function(tool) for tool in tools]
    if len(functions) == 1:
        words, definition = _ONE.replace("{name}", str(functions[0].get("name"))), jsontext.dumps(functions[0])
    else:
        words, definition = _SEVERAL, jsontext.dumps(functions)
    told = Message("system", words + definition.decode("utf-8", "replace"))
    place = next((i for i, one in enumerate(request.messages) if one.role != "system"), len(request.messages))
    return attrs.evolve(
        request,
        messages=(*request.messages[:place], told, *request.messages[place:]),
        format=_call_format(functions),
        tools=(),
        tool_choice=None,
        think=False,
        logprobs=False,
        top_logprobs=0,
    )


def _call_format(functions: Sequence[dict[str, JSON]]) -> JSON:
    """Return the schema of the arguments; of several functions that of a name and its arguments."""
    if len(functions) == 1:
        return _parameters(functions[0])
    kinds, definitions = list[JSON](), dict[str, JSON]()
    for number, function in enumerate(functions):
        parameters = _parameters(function)
        if b'"$ref"' in jsontext.dumps(parameters):
            # Its references begin at the root, which it is no longer.
            root = f"#/$defs/tool_{number}"
            definitions[f"tool_{number}"] = _moved(parameters, root)
            parameters = {"$ref": root}
        members = {"name": {"type": "string", "enum": [function.get("name")]}, "arguments": parameters}
        kinds.append({"type": "object", "properties": members, "required": ["name", "arguments"]})
    return {"anyOf": kinds} | ({"$defs": definitions} if definitions else {})


def _parameters(function: dict[str, JSON]) -> JSON:
    parameters = function.get("parameters")
    # A function without any takes none.
    return parameters if isinstance(parameters, dict) and parameters else {"type": "object", "properties": {}}


def _moved(schema: JSON, root: str) -> JSON:
    """Return a schema whose references begin at ``root``."""
    if isinstance(schema, list):
        return [_moved(item, root) for item in schema]
    if not isinstance(schema, dict):
        return schema
    reference = schema.get("$ref")
    moved = {name: _moved(value, root) for name, value in schema.items()}
    if isinstance(reference, str) and reference.startswith("#"):
        moved["$ref"] = root + reference[1:]
    return moved


def unwanted_calls(request: ChatRequest, calls: Sequence[ToolCallDelta]) -> list[str]:
    """Return the names of those calls that the choice does not allow; calls without a name are pieces of others."""
    names = {_name(tool) for tool in offered_tools(request)}
    return [call.name for call in calls if call.name and call.name not in names]


def parse_call(request: ChatRequest, text: str) -> ToolCallDelta | None:
    """Return the call that a text in the form of one is; None for any other text.

    Servers that do not hold a model to the form get what models write of their own accord: JSON in a fence,
    ``parameters`` for ``arguments``, arguments as a text, and a name where there is but one tool.
    """
    names = [_name(tool) for tool in offered_tools(request)]
    try:
        data = _unfenced(text).encode("utf-8", "replace")
        name: JSON = names[0] if len(names) == 1 else None
        value = jsontext.loads(data)
        if isinstance(value, dict) and (len(names) != 1 or _is_wrapped(request, value, names[0])):
            name = value.get("name")
            data = jsontext.get_top_level(data, _arguments_of(value))
            value = jsontext.loads(data)
        if isinstance(value, str):
            data = value.encode("utf-8", "replace")
            value = jsontext.loads(data)
    except (ValueError, LookupError):
        return None
    if not isinstance(value, dict) or name not in names or not isinstance(name, str):
        return None
    return ToolCallDelta(0, make_call_id(), name, data.decode("utf-8"))


def _unfenced(text: str) -> str:
    """Return the object between the first fence that has one behind it and the last of all, or the text itself."""
    opening = None if text.lstrip().startswith("{") else _FENCE.search(text)
    if opening is None:
        return text.strip()
    fenced = text[opening.end() : max(text.rfind("```"), opening.end())].strip()
    return fenced if fenced.endswith("}") else text.strip()


def _arguments_of(value: dict[str, JSON]) -> str:
    """Return the member of a call that holds its arguments."""
    return "parameters" if "arguments" not in value and "parameters" in value else "arguments"


def _is_wrapped(request: ChatRequest, value: dict[str, JSON], name: str | None) -> bool:
    """Say whether the answer for one tool is a whole call, and not an object of arguments that has such members."""
    member = _arguments_of(value)
    if value.keys() != {"name", member} or value["name"] != name:
        return False
    properties = _function(offered_tools(request)[0]).get("parameters")
    declared = properties.get("properties") if isinstance(properties, dict) else None
    return not (isinstance(declared, dict) and {"name", member} & declared.keys())

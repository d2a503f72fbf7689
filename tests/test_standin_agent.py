"""The stand-in's agent: which tools it calls, and how it fills them and schemas, by the words of the prompt."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from agenthub.standin import Standin, running
from agenthub.standin.choosing import chosen
from agenthub.standin.schemas import Clues, instance

STRING, INTEGER, NUMBER = {"type": "string"}, {"type": "integer"}, {"type": "number"}
TREE = {
    "$defs": {
        "Tree": {
            "type": "object",
            "properties": {"leaf": STRING, "trees": {"type": "array", "items": {"$ref": "#/$defs/Tree"}}},
            "required": ["leaf"],
        }
    },
    "$ref": "#/$defs/Tree",
}


def tool(name: str, description: str = "", **properties: dict[str, Any]) -> dict[str, Any]:
    """A tool definition; every property is required."""
    parameters = {"type": "object", "properties": properties, "required": list(properties)}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}


ADD = tool("add_up", "Sum of two.", a=NUMBER, b=NUMBER)
WEATHER = tool("get_weather", "Weather of today.", place=STRING)
TIME = tool("get_time", "The clock.", zone=STRING)


@pytest.mark.parametrize(
    ("schema", "text", "value"),
    [
        ({"const": 7}, "", 7),
        ({"type": "string", "default": "d"}, "'x'", "d"),
        ({"enum": ["celsius", "kelvin"]}, "in kelvin, please", "kelvin"),
        ({"enum": ["celsius", "kelvin"]}, "", "celsius"),
        (STRING, "", "text"),
        (STRING, "don't say 'two words' or Riga", "two words"),
        (STRING, "What of San Francisco, CA?", "San Francisco, CA"),
        (STRING | {"maxLength": 2}, "", "te"),
        (STRING | {"minLength": 6}, "", "text.."),
        (STRING | {"format": "date"}, "on 'Monday'", "2026-01-02"),
        (INTEGER, "f(3) of x2", 3),
        (INTEGER, "1.5 or 2", 2),
        (INTEGER | {"minimum": 5}, "from 1", 5),
        (INTEGER | {"exclusiveMaximum": 0}, "", -1),
        (INTEGER | {"multipleOf": 7, "minimum": 8}, "", 14),
        (NUMBER | {"exclusiveMinimum": 0, "exclusiveMaximum": 0.5}, "", 0.25),
        (NUMBER | {"multipleOf": 0.1}, "0.3", 0.3),
        ({"type": "boolean"}, "", True),
        ({"type": "null"}, "", None),
        ({"type": ["null", "integer"]}, "", 1),
        ({"anyOf": [{"type": "null"}, INTEGER]}, "4", 4),
        ({"type": "array", "items": NUMBER}, "1, 2.5 and -3", [1, 2.5, -3]),
        ({"type": "array", "items": STRING, "minItems": 2}, "", ["text", "text"]),
        ({"allOf": [{"properties": {"a": STRING}}, {"properties": {"b": INTEGER}}]}, "", {"a": "text", "b": 1}),
        ({"type": "object", "required": ["a"]}, "", {"a": "text"}),
        (TREE, "", {"leaf": "text", "trees": [{"leaf": "text", "trees": [{"leaf": "text"}]}]}),
    ],
)
def test_a_schema_is_filled_by_the_text(schema: object, text: str, value: object) -> None:
    """The value fits the schema, and takes from the text what fits there."""
    assert instance(schema, Clues(text)) == value


@pytest.mark.parametrize(
    ("prompt", "choice", "calls"),
    [
        ("What is get_weather('Riga')?", None, [("get_weather", {"place": "Riga"})]),
        (
            "get_weather('Riga'), then add_up(1, 2), then get_weather('Oslo')",
            None,
            [("get_weather", {"place": "Riga"}), ("add_up", {"a": 1, "b": 2}), ("get_weather", {"place": "Oslo"})],
        ),
        ("How is the weather in Oslo?", "auto", [("get_weather", {"place": "Oslo"})]),
        ("What is 3 + 4?", None, [("add_up", {"a": 3, "b": 4})]),
        ("What is 3?", None, []),
        ("Hello!", None, []),
        ("Hello!", "required", [("add_up", {"a": 1.5, "b": 1.5})]),
        ("get_weather", "none", []),
        ("get_weather", {"type": "function", "function": {"name": "get_time"}}, [("get_time", {"zone": "text"})]),
        ("add_upper", None, []),
    ],
)
def test_tools_are_chosen_by_the_prompt(prompt: str, choice: object, calls: list[Any]) -> None:
    """It calls what is named, else what is meant, else nothing; ``tool_choice`` is obeyed."""
    assert chosen([ADD, WEATHER, TIME], prompt, choice) == calls


@pytest.fixture
async def url() -> AsyncIterator[str]:
    async with running(Standin(models=("agent",))) as url:
        yield url


async def test_an_agent_on_both_apis(url: str) -> None:
    """Either API calls the tool, repeats its result and fills a schema; only /v1 has ``tool_choice``."""
    user = {"role": "user", "content": "What is 3 + 4? Answer with 'sum'."}
    body = {"model": "agent", "messages": [user], "stream": False}
    told = {"messages": [user, {"role": "tool", "content": "7", "tool_call_id": "x", "tool_name": "add_up"}]}
    schema = {"type": "object", "properties": {"sum": INTEGER}}
    async with aiohttp.ClientSession() as session:

        async def message(path: str, **fields: object) -> Any:
            async with session.post(url + path, json=body | {"tools": [ADD]} | fields) as response:
                answer = await response.json()
            return answer["message"] if path == "/api/chat" else answer["choices"][0]["message"]

        native = await message("/api/chat")
        openai = await message("/v1/chat/completions")
        assert native["tool_calls"][0]["function"]["arguments"] == {"a": 3, "b": 4}
        assert openai["tool_calls"][0]["function"]["arguments"] == '{"a":3,"b":4}'
        for path in ("/api/chat", "/v1/chat/completions"):
            assert (await message(path, **told))["content"].startswith("The tool said: 7.")
        filled = await message("/api/chat", tools=[], format=schema)
        loose = await message("/v1/chat/completions", tools=[], response_format={"type": "json_object"})
        assert (json.loads(filled["content"]), json.loads(loose["content"])) == ({"sum": 3}, {"sum": "text"})
        assert "tool_calls" not in await message("/v1/chat/completions", tool_choice="none")

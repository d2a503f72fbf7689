"""The software behind an OpenAI-compatible API: an Ollama is found out, and spoken to in the words that it reads."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agenthub.dialects.openai.for_ollama import remove_top_level
from agenthub.health import Health
from agenthub.settings import BackendSettings, ClientSettings, HealthSettings, ModelSettings
from agenthub_adapter_openai.server import AGAIN_S, Server
from tests.hubs import Clock, running_hub
from tests.upstreams import HI, Reply, Upstream, answering, serving

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
QUIET = HealthSettings(models_refresh_s=0, interval_s=0)
DIGEST = "b2" * 32
TAGS = [{"name": "m:latest", "model": "m:latest", "size": 7, "digest": DIGEST, "modified_at": "2026-01-01T00:00:00Z"}]
OLLAMA = {"version": "0.9.3", "models": TAGS, "data": [{"id": "m:latest", "owned_by": "library"}]}
OTHER = {"data": [{"id": "m", "owned_by": "vllm"}]}


def chat(**fields: Any) -> dict[str, Any]:
    return {"model": "m", "messages": HI, **fields}


def backend(upstream: Upstream, **settings: Any) -> dict[str, BackendSettings]:
    return {"b": BackendSettings(upstream.url, **{"api_mode": "openai"} | settings)}


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(
    ("fields", "limit"),
    [
        ({"max_completion_tokens": 5}, 5),
        ({"max_completion_tokens": 5, "max_tokens": 9}, 5),
        ({"max_tokens": 9, "max_completion_tokens": 5}, 5),
        ({"max_tokens": 9, "max_completion_tokens": None}, 9),
        ({"max_tokens": 9}, 9),
        ({}, None),
    ],
)
async def test_the_limit_of_an_ollama(fields: dict[str, Any], limit: int | None, streamed: bool) -> None:
    """It gets the newer word as the one that it knows, with the first request as well; nothing is lost by it."""
    async with serving(answering()) as upstream:
        upstream.listed = OLLAMA
        async with running_hub(backend(upstream)) as hub:
            answer = await hub.post(CHAT, chat(stream=streamed, **fields))
            assert (answer.status, answer.headers.get("X-AgentHub-Dropped")) == (200, None)
            (sent,) = upstream.asked
            assert sent == chat(stream=streamed) | ({} if limit is None else {"max_tokens": limit})


@pytest.mark.parametrize(
    ("flavour", "listed", "is_changed"),
    [
        ("auto", OLLAMA, True),
        ("ollama", OTHER, True),
        ("auto", OTHER, False),
        ("auto", OTHER | {"version": "b5000"}, False),
        ("auto", OTHER | {"version": 9}, False),
        ("generic", OLLAMA, False),
        ("openai", OLLAMA, False),
        ("vllm", OLLAMA, False),
    ],
)
async def test_who_gets_other_words(flavour: str, listed: Any, is_changed: bool) -> None:
    """Who answers with a version as Ollama does, unless the setting says what it is; others get the client's bytes."""
    async with serving(answering()) as upstream:
        upstream.listed = listed
        async with running_hub(backend(upstream, flavour=flavour)) as hub:
            answer = await hub.post(CHAT, chat(max_completion_tokens=5, tool_choice="none", tools=[TOOL]))
            assert answer.headers.get("X-AgentHub-Dropped") == ("tool_choice" if is_changed else None)
            assert ("max_tokens" in upstream.asked[0], "max_completion_tokens" in upstream.asked[0]) == (
                is_changed,
                not is_changed,
            )


TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}


@pytest.mark.parametrize("level", ["header", "client", "model"])
async def test_each_level_that_chooses_the_adapter(level: str) -> None:
    """An Ollama with a native backend is known as one where a request, a client or an alias names the adapter."""
    settings: dict[str, Any] = {
        "header": {},
        "client": {"clients": {"c": ClientSettings(api_mode="openai")}},
        "model": {"models": {"m": ModelSettings(api_mode="openai")}},
    }[level]
    headers = {"header": {"X_AgentHub_Api_Mode": "openai"}, "client": {"X_Client_Name": "c"}, "model": {}}[level]
    async with serving(answering()) as upstream:
        upstream.listed = OLLAMA
        async with running_hub(backend(upstream, api_mode="native"), health=QUIET, **settings) as hub:
            answer = await hub.post(CHAT, chat(max_completion_tokens=5), **headers)
            assert (answer.status, upstream.paths, upstream.asked[0]["max_tokens"]) == (200, [CHAT], 5)


async def test_a_server_that_keeps_silent_about_its_version() -> None:
    """A failure is no answer: it is asked again, and is nobody's failure meanwhile."""
    async with serving(answering()) as upstream:
        upstream.listed, upstream.missing = OLLAMA, ("/api/version",)
        async with running_hub(backend(upstream), health=QUIET) as hub:
            await hub.post(CHAT, chat(max_completion_tokens=5))
            upstream.missing = ()
            adapter: Any = hub.hub.router.backends["b"].adapters["openai"]
            adapter.server.doubt()
            await Health(hub.hub.router).check()
            await hub.post(CHAT, chat(max_completion_tokens=5))
            asked = [upstream.asked[0], upstream.asked[-1]]
            assert [sorted(sent.keys() - chat().keys()) for sent in asked] == [
                ["max_completion_tokens"],
                ["max_tokens"],
            ]


async def test_the_question_is_remembered() -> None:
    """It is asked once a minute at most, and the answer may be another: a server is replaced by another one."""
    async with serving(answering()) as upstream:
        upstream.listed = OLLAMA
        async with running_hub(backend(upstream), health=QUIET) as hub:
            adapter: Any = hub.hub.router.backends["b"].adapters["openai"]
            server: Server = adapter.server
            await hub.hub.router.refresh()
            server.clock = clock = Clock(server.clock() + 1)
            before = upstream.looked_up.count("/api/version")
            for _ in range(3):
                await hub.hub.router.refresh()
            assert (upstream.looked_up.count("/api/version"), server.flavour) == (before, "ollama")
            upstream.listed, clock.now = OTHER, clock.now + AGAIN_S
            await hub.hub.router.refresh()
            assert (upstream.looked_up.count("/api/version"), server.flavour) == (before + 1, "generic")


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("prompts", [["a"], ["a", "b", "c"], []], ids=len)
async def test_prompts_in_a_list(prompts: list[str], streamed: bool) -> None:
    """Ollama takes a text only: one prompt goes as such, several are a call for each, with all else that was asked."""

    def reply(path: str, body: Any) -> Reply:
        said = {"index": 0, "text": f"<{body['prompt']}>", "finish_reason": "stop"}
        usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
        return (
            Reply(frames=[{"choices": [said], "usage": usage}, "[DONE]"])
            if streamed
            else Reply({"choices": [said], "usage": usage})
        )

    async with serving(reply) as upstream:
        upstream.listed = OLLAMA
        async with running_hub(backend(upstream), models={"alias": ModelSettings("m")}) as hub:
            asked = {"model": "alias", "prompt": prompts, "stream": streamed, "seed": 4, "max_completion_tokens": 9}
            answer = await hub.post(COMPLETIONS, asked)
            assert (answer.status, answer.headers.get("X-AgentHub-Dropped")) == (200, None)
            assert [sent["prompt"] for sent in upstream.asked] == (prompts or [""])
            for sent in upstream.asked:
                told = {name: sent[name] for name in ("model", "stream", "seed", "max_tokens")}
                assert told == {"model": "m", "stream": streamed, "seed": 4, "max_tokens": 9}
            frames = [frame for frame in answer.frames() if frame != "[DONE]"]
            texts = {
                choice["index"]: choice["text"] for frame in frames for choice in frame["choices"] if choice["text"]
            }
            assert texts == dict(enumerate(f"<{prompt}>" for prompt in (prompts or [""])))
            assert {frame["model"] for frame in frames if "model" in frame} <= {"alias"}


@pytest.mark.parametrize("prompt", [[1, 2], [[1], [2]]], ids=str)
async def test_tokens_are_refused(prompt: Any) -> None:
    """Ollama takes no tokens, as a list of one or several: a 400 that names the field, before anything is sent."""
    async with serving(answering()) as upstream:
        upstream.listed = OLLAMA
        async with running_hub(backend(upstream)) as hub:
            refused = await hub.post(COMPLETIONS, {"model": "m", "prompt": prompt})
            assert (refused.status, refused.json()["error"]["param"], upstream.paths) == (400, "prompt", [])


async def test_lists_of_another_server_pass() -> None:
    """Who is no Ollama gets the list as it is."""
    async with serving(answering()) as upstream:
        upstream.listed = OTHER
        async with running_hub(backend(upstream)) as hub:
            await hub.post(COMPLETIONS, {"model": "m", "prompt": ["a", "b"]})
            assert upstream.asked == [{"model": "m", "prompt": ["a", "b"]}]


async def test_what_an_ollama_tells_by_its_own_api() -> None:
    """Its version, the sizes and digests of its models, and what it holds in memory."""
    async with serving(answering()) as upstream:
        upstream.listed = OLLAMA | {"version": "0.99.1"}
        async with running_hub(backend(upstream)) as hub:
            assert (await hub.get("/api/version")).json() == {"version": "0.99.1"}
            (tag,) = (await hub.get("/api/tags")).json()["models"]
            (running,) = (await hub.get("/api/ps")).json()["models"]
            assert {(found["size"], found["digest"]) for found in (tag, running)} == {(7, DIGEST)}
            (model,) = (await hub.get("/v1/models")).json()["data"]
            assert (model["id"], model["owned_by"]) == ("m:latest", "library")


async def test_an_ollama_that_shows_only_v1() -> None:
    """Behind a proxy that passes its /v1 and its version on, the rest is made of what is listed there."""
    async with serving(answering()) as upstream:
        upstream.listed, upstream.missing = OLLAMA, ("/api/tags", "/api/ps", "/api/show")
        async with running_hub(backend(upstream)) as hub:
            assert [model["name"] for model in (await hub.get("/api/tags")).json()["models"]] == ["m:latest"]
            assert (await hub.get("/api/ps")).json() == {"models": []}
            assert (await hub.post("/api/show", {"model": "m"})).status == 200


@pytest.mark.parametrize(
    ("flavour", "listed", "title"),
    [
        ("auto", OLLAMA, "OpenAI-compatible Ollama API"),
        ("ollama", OTHER, "OpenAI-compatible Ollama API"),
        ("auto", OTHER, "OpenAI-compatible API"),
        ("llamacpp", OLLAMA, "OpenAI-compatible API"),
        ("generic", OLLAMA, "OpenAI-compatible API"),
    ],
)
async def test_the_start_says_what_it_is(flavour: str, listed: Any, title: str) -> None:
    """Only an Ollama has an Ollama API."""
    async with serving(answering()) as upstream:
        upstream.listed = listed
        async with running_hub(backend(upstream, flavour=flavour)) as hub:
            assert [line["event"] for line in hub.lines if line["event"].startswith("Using")] == [f"Using {title}"]


@pytest.mark.parametrize(
    "limits",
    [
        b'"max_\\u0063ompletion_tokens":5',
        b'"\\u006Dax_completion_tokens":5',
        b'"max_tokens":9,"max_\\u0063ompletion_tokens":5',
        b'"max_\\u0063ompletion_tokens":5,"max_tokens":9',
        b'"Max_Completion_Tokens":5',
    ],
)
async def test_the_limit_of_an_ollama_in_another_spelling(limits: bytes) -> None:
    """To JSON an escaped letter is that letter, and to an Ollama a capital one; an escape in a text is no matter."""
    body = b'{"model":"m",' + limits + b',"messages":[{"role":"user","content":"caf\\u00e9 \\u0041"}]}'
    async with serving(answering()) as upstream:
        upstream.listed = OLLAMA
        async with running_hub(backend(upstream)) as hub:
            answer = await hub.post(CHAT, body)
            assert answer.status == 200, answer.text
            (sent,) = upstream.asked
            assert sent == {"model": "m", "messages": [{"role": "user", "content": "café A"}], "max_tokens": 5}


async def test_a_prompt_list_in_another_spelling() -> None:
    """The name of a list of one prompt may be escaped too."""
    async with serving(answering()) as upstream:
        upstream.listed = OLLAMA
        async with running_hub(backend(upstream)) as hub:
            await hub.post(COMPLETIONS, b'{"model":"m","pr\\u006fmpt":["hi"]}')
            assert upstream.asked[0]["prompt"] == "hi"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('{"a":1, "x" : 2,"b":3}', '{"a":1,"b":3}'),
        ('{ "x":2, "a":1 }', '{ "a":1 }'),
        ('{"a":1,"x":2}', '{"a":1}'),
        ('{"x":2}', "{}"),
        ('{"x":1,"x":2,"a":"x"}', '{"a":"x"}'),
        ('{"\\u0078":2,"a":{"x":1}} rest', '{"a":{"x":1}} rest'),
    ],
)
def test_a_member_is_taken_out(before: str, after: str) -> None:
    """With the comma that belongs to it; all else stays."""
    taken = remove_top_level(before.encode(), "x").decode()
    assert (taken.replace(" ", ""), json.JSONDecoder().raw_decode(taken)[0]) == (
        after.replace(" ", ""),
        json.JSONDecoder().raw_decode(after)[0],
    )


ENTRY = {"id": "m", "name": "m", "model": "m"}
SHAPES: dict[str, Any] = {
    "bare": [ENTRY],
    "texts": {"data": ["m"], "models": ["m"]},
    "bare-texts": ["m"],
    "one-bad": {
        "data": [{"object": "model"}, ENTRY, 5, None, {"id": 3, "name": "", "model": None}],
        "models": [7, ENTRY],
    },
    "id-only": {"data": [{"id": "m"}], "models": [{"name": "m"}]},
    "name-only": {"data": [{"name": "m"}], "models": [{"name": "m"}]},
    "model-only": {"data": [{"model": "m"}], "models": [{"model": "m"}]},
    "models-only": {"models": [ENTRY]},
    "data-only": {"data": [ENTRY]},
    "data-null": {"data": None, "models": [ENTRY]},
    "models-null": {"models": None, "data": [ENTRY]},
}


@pytest.mark.parametrize("mode", ["native", "openai", "auto"])
@pytest.mark.parametrize("shape", SHAPES)
async def test_odd_lists(mode: str, shape: str) -> None:
    """What can be read is taken, shown in both dialects, and answers; the backend is up."""
    async with serving(answering()) as upstream:
        upstream.listed, upstream.missing = SHAPES[shape], ("/api/version",)
        async with running_hub(backend(upstream, api_mode=mode), health=QUIET) as hub:
            (tag,) = (await hub.get("/api/tags")).json()["models"]
            assert (tag["name"], tag["model"], type(tag["size"]), len(tag["digest"])) == ("m", "m", int, 64)
            assert [model["id"] for model in (await hub.get("/v1/models")).json()["data"]] == ["m"]
            assert (await hub.post("/api/chat", chat())).status == 200
            await hub.hub.router.refresh()
            ready = await hub.get("/ready")
            skipped = [line for line in hub.lines if line["event"] == "agenthub.list_entries_skipped"]
            assert len(skipped) == (shape == "one-bad")
            assert mode == "native" or ready.status == 200
            assert not [line for line in hub.lines if line["event"] == "agenthub.backend_unreachable"]


@pytest.mark.parametrize("mode", ["native", "openai"])
@pytest.mark.parametrize("listed", [{"data": None, "models": None}, [], {"data": [], "models": []}], ids=str)
async def test_empty_lists(mode: str, listed: Any) -> None:
    """Nothing is listed, and nothing is wrong."""
    async with serving(answering()) as upstream:
        upstream.listed = listed
        async with running_hub(backend(upstream, api_mode=mode), health=QUIET) as hub:
            assert (await hub.get("/api/tags")).json() == {"models": []}
            assert not [line for line in hub.lines if line["event"] == "agenthub.backend_unreachable"]


@pytest.mark.parametrize("listed", [{}, {"error": "no"}, {"data": 5, "models": "x"}, "text", 5, None], ids=str)
@pytest.mark.parametrize("mode", ["native", "openai"])
async def test_what_is_no_list(mode: str, listed: Any) -> None:
    """Another answer is none, though its status is 200."""
    async with serving(answering()) as upstream:
        upstream.listed = listed
        async with running_hub(backend(upstream, api_mode=mode), health=QUIET) as hub:
            assert (await hub.get("/api/tags")).status == 502


async def test_odd_entries_of_ps() -> None:
    """They are left out, and those with one name get the other."""
    async with serving(answering()) as upstream:
        upstream.listed = {"version": "0.9.3", "models": [5, {"model": "m"}, "n", {"name": "m2", "size": 1}]}
        for mode in ("native", "openai"):
            async with running_hub(backend(upstream, api_mode=mode)) as hub:
                shown = (await hub.get("/api/ps")).json()["models"]
                assert [(entry["name"], entry["model"]) for entry in shown] == [
                    (name, name) for name in ("m", "n", "m2")
                ]


ABLE: list[tuple[dict[str, Any], list[str], int | None]] = [
    ({"max_model_len": 4096}, ["completion"], 4096),
    (
        {"meta": {"n_ctx": 2048, "n_ctx_train": 8192}, "capabilities": ["completion", "multimodal"]},
        ["completion", "vision"],
        2048,
    ),
    (
        {"architecture": {"input_modalities": ["text", "image"], "output_modalities": ["text"]}},
        ["completion", "vision"],
        None,
    ),
    (
        {"supported_parameters": ["temperature", "tools", "reasoning"], "context_length": 131072},
        ["completion", "tools", "thinking"],
        131072,
    ),
    (
        {"type": "vlm", "capabilities": ["tool_use"], "max_context_length": 32768},
        ["completion", "tools", "vision"],
        32768,
    ),
    ({"type": "embeddings", "max_context_length": 512}, ["embedding"], 512),
    (
        {"capabilities": {"completion_chat": True, "function_calling": True, "vision": False, "completion_fim": True}},
        ["completion", "tools", "insert"],
        None,
    ),
    (
        {"context_window": "8k", "max_model_len": -1, "capabilities": 7, "architecture": [], "meta": 1, "type": {}},
        ["completion"],
        None,
    ),
]


@pytest.mark.parametrize(("told", "capabilities", "length"), ABLE, ids=range(len(ABLE)))
async def test_what_a_server_says_of_its_models(
    told: dict[str, Any], capabilities: list[str], length: int | None
) -> None:
    """Each server has its own words; they are shown in Ollama's, where editors look for them."""
    async with serving(answering()) as upstream:
        upstream.listed = {"data": [{"id": "m", "owned_by": "acme"} | told]}
        async with running_hub(backend(upstream), health=QUIET) as hub:
            shown = (await hub.post("/api/show", {"model": "m"})).json()
            assert shown["capabilities"] == capabilities
            arch = shown["model_info"]["general.architecture"]
            assert shown["model_info"].get(f"{arch}.context_length") == length
            (tag,) = (await hub.get("/api/tags")).json()["models"]
            assert tag.get("context_length") == length
            assert tag.get("capabilities", ["completion"]) == capabilities


async def test_what_llamacpp_shows_of_itself() -> None:
    """Its own /api/show gets what only its list tells, under the names that clients look for."""
    shown = {
        "template": "t",
        "model_info": {"llama.context_length": 64},
        "details": {"family": ""},
        "capabilities": ["completion"],
    }
    listed = [{"id": "m", "owned_by": "llamacpp", "meta": {"n_ctx_train": 64}}]
    async with serving(lambda path, body: Reply(shown)) as upstream:
        upstream.listed = {"data": listed, "models": [{"name": "m", "capabilities": ["completion", "multimodal"]}]}
        async with running_hub(backend(upstream), health=QUIET) as hub:
            await hub.hub.router.refresh()
            told = (await hub.post("/api/show", {"model": "m"})).json()
            assert told["capabilities"] == ["completion", "vision"]
            assert told["model_info"] == {"general.architecture": "llama", "llama.context_length": 64}


@pytest.mark.parametrize("mode", ["native", "openai"])
@pytest.mark.parametrize("name", ["m", "alias", "M:latest"])
async def test_capabilities_by_a_setting(mode: str, name: str) -> None:
    """They stand in show and in the list, also of an alias, and what is not among them is refused before it is sent."""
    models = {"m": ModelSettings(capabilities=("completion", "tools")), "alias": ModelSettings("m")}
    shown = Reply({"modelfile": "x", "model_info": {}, "capabilities": ["completion", "vision"]})

    def reply(path: str, body: Any) -> Reply:
        return shown if path == "/api/show" else answering()(path, body)

    async with serving(reply) as upstream:
        upstream.listed = OLLAMA
        async with running_hub(backend(upstream, api_mode=mode), health=QUIET, models=models) as hub:
            told = (await hub.post("/api/show", {"model": name})).json()
            assert told["capabilities"] == ["completion", "tools"]
            tags = (await hub.get("/api/tags")).json()["models"]
            told_by_tags = {tag["name"]: tag["capabilities"] for tag in tags}
            assert told_by_tags == {"m:latest": ["completion", "tools"], "alias": ["completion", "tools"]}
            before = len(upstream.paths)
            seeing = [{"role": "user", "content": "hi", "images": ["iVBORw0KGgo="]}]
            refused = await hub.post("/api/chat", {"model": name, "messages": seeing})
            assert (refused.status, len(upstream.paths)) == (400, before)
            assert (await hub.post("/api/chat", {"model": name, "messages": HI, "tools": [TOOL]})).status == 200


async def test_the_nearest_capabilities_count() -> None:
    """An alias may say more than the model that it stands for, and need not say that it completes."""
    models = {"m": ModelSettings(capabilities=("completion",)), "alias": ModelSettings("m", capabilities=("tools",))}
    async with serving(answering()) as upstream:
        upstream.listed = OLLAMA
        async with running_hub(backend(upstream), health=QUIET, models=models) as hub:
            asked = {"messages": HI, "tools": [TOOL], "stream": False}
            assert (await hub.post("/api/chat", {"model": "m", **asked})).status == 400
            assert (await hub.post("/api/chat", {"model": "alias", **asked})).status == 200

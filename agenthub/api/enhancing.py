"""Prompts put better: at /hub/enhance, and in line, in requests that are about to be dispatched."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import attrs
from aiohttp import web

from agenthub.api.bodies import read_body
from agenthub.api.context import TRUE
from agenthub.api.described import Head
from agenthub.api.hub import SERVING, Hub, hub_of
from agenthub.api.responses import Response, StreamedResponse
from agenthub.api.streaming import authorization_of
from agenthub.canonical import Request
from agenthub.dialects import Codec, jsontext
from agenthub.dialects.body import Fields, parse_fields
from agenthub.dialects.ollama import fields as ollama_fields
from agenthub.dialects.prompts import NoPrompt, Prompt, find_prompt
from agenthub.enhancement.result import Enhancement
from agenthub.enhancement.rules import BUILT_IN, Rule
from agenthub.errors import Forbidden, InvalidRequest
from agenthub.middleware import Caller
from agenthub.modes import AUTO
from agenthub.offload import offload
from agenthub.operations import GROUPS

HEADER = "X-AgentHub-Enhanced"
_LONGEST_NAME = 128


def wants_enhancement(hub: Hub, head: Head, caller: Caller) -> bool:
    """Say whether the prompt of a request is to be put better: its header does, or else what is set for the client."""
    asked = head.headers.get("X-Enhance")
    if asked is None:
        return caller.client in hub.auto_enhanced
    return asked.strip().lower() in TRUE


async def enhance_in_line(http_request: web.Request, caller: Caller, codec: Codec, request: Request) -> Request:
    """Return the request with its prompt put better; where that cannot be, as it is. The answer's header says which."""
    assert request.source is not None
    body = request.source.body
    try:
        prompt = await offload(len(body), find_prompt, codec.path, body)
    except NoPrompt as none:
        caller.enhanced = f"no: {none}"
    else:
        errand = make_errand(caller)
        hub = hub_of(http_request)
        enhancer, authorization = hub.enhancer, authorization_of(hub, http_request, caller)
        found = await enhancer.enhance(prompt.text, errand, instead=request.model, authorization=authorization)
        caller.enhanced, caller.is_counted, caller.reply_headers = found.label, errand.is_counted, errand.reply_headers
        if found.was_enhanced:
            request = await offload(len(body), _replaced, codec, prompt, body, found.enhanced)
    caller.reply_headers = {**caller.reply_headers, HEADER: caller.enhanced}
    return request


def _replaced(codec: Codec, prompt: Prompt, body: bytes, text: str) -> Request:
    return codec.parse_request(prompt.replaced(body, text))


def make_errand(caller: Caller) -> Caller:
    """Return who asks about a prompt of ``caller``: the same, but what the question loses on its way is the hub's."""
    return attrs.evolve(caller, strict=False)


@attrs.frozen
class Asked:
    """The body of /hub/enhance."""

    prompt: str
    client: str | None
    model: str
    stream: bool
    bypass_cache: bool

    @classmethod
    def parse(cls, body: bytes) -> Asked:
        """Return it; raises InvalidRequest."""
        fields = parse_fields(body, "EnhanceRequest", package="hub")
        if fields.values.get("prompt") is None:
            raise InvalidRequest("prompt is required", param="prompt")
        return cls(
            prompt=fields.text("prompt"),
            client=_name(fields),
            model=fields.text("model"),
            stream=fields.flag("stream"),
            bypass_cache=fields.flag("bypass_cache"),
        )


def _name(fields: Fields) -> str | None:
    if fields.values.get("client") is None:
        return None
    name = fields.text("client")
    if not 0 < len(name) <= _LONGEST_NAME:
        raise InvalidRequest(f"client must have 1 to {_LONGEST_NAME} characters", param="client")
    return name


async def enhance(http_request: web.Request, caller: Caller) -> web.StreamResponse:
    """Put one prompt better. Whatever goes wrong behind the hub, the answer is a 200 with the prompt as it was."""
    hub = hub_of(http_request)
    asked = take_asked(hub, caller, await read_body(http_request))
    wishes: dict[str, Any] = {"model": asked.model, "authorization": authorization_of(hub, http_request, caller)}
    if asked.stream:
        return await _stream(http_request, caller, asked.prompt, wishes)
    found = await hub.enhancer.enhance(asked.prompt, caller, **wishes)
    _refuse(found)
    return _json(found.to_json())


def take_asked(hub: Hub, caller: Caller, body: bytes) -> Asked:
    """Return what is asked, and make the caller the one who asks it; raises AgentHubError."""
    asked = Asked.parse(body)
    _check_mode(hub, caller)
    if asked.client is not None:
        hub.access.speak_for(caller, asked.client)
        caller.rights.check_operation("chat")
    if asked.bypass_cache:
        caller.no_cache = True
    return asked


def _check_mode(hub: Hub, caller: Caller) -> None:
    """Raise InvalidRequest for an api mode in the headers that there cannot be."""
    known = (*hub.plugins.adapters, AUTO)
    if caller.api_mode and caller.api_mode not in known:
        raise InvalidRequest(f"api mode {caller.api_mode!r} is not one of {', '.join(known)}", param="api_mode")


def _refuse(found: Enhancement) -> None:
    """Raise Forbidden where the client may chat with none of the models."""
    if found.is_forbidden:
        raise Forbidden(found.error, param="model")


async def _stream(
    http_request: web.Request, caller: Caller, prompt: str, wishes: Mapping[str, Any]
) -> web.StreamResponse:
    """Answer in lines: a delta for each piece, then the whole result, which alone counts."""
    response = StreamedResponse()

    async def write(line: Mapping[str, Any]) -> None:
        if not response.prepared:
            response.headers.update({"X-Request-Id": caller.request_id, **caller.reply_headers})
            response.headers.update({"Content-Type": ollama_fields.STREAM_TYPE, "Cache-Control": "no-cache"})
            if http_request.app[SERVING].is_stopping:
                response.force_close()
            await response.prepare(http_request)
        await response.write(jsontext.dumps(line) + b"\n")

    # A client that left is no error: the upstream is closed, and there is nobody to tell.
    with suppress(ConnectionResetError):
        enhancer = hub_of(http_request).enhancer
        found = await enhancer.enhance(prompt, caller, tell=lambda text: write({"delta": text}), **wishes)
        if not response.prepared:
            _refuse(found)
        await write(found.to_json())
        await response.write_eof()
    return response


async def rules(http_request: web.Request, caller: Caller) -> web.StreamResponse:
    """Show the rules in force; a client with a key that may not manage sees the one that is for it."""
    hub = hub_of(http_request)
    found, seen = hub.settings.enhancement.rules, hub.auto_enhanced
    clients = found.clients
    shown: dict[str, Any] = {"file": found.file or None, "default": _rule(found.default)}
    if found.default == BUILT_IN:
        shown["built_in"] = True
    if hub.access.clients.keys and not GROUPS["manage"] <= caller.rights.operations:
        clients = {name: rule for name, rule in clients.items() if name == caller.client}
        seen = seen & {caller.client}
        if clients:
            del shown["default"]
            shown.pop("built_in", None)
    shown |= {"clients": {name: _rule(rule) for name, rule in clients.items()}, "auto_enhance": sorted(seen)}
    return _json(shown)


def _rule(rule: Rule) -> dict[str, Any]:
    return {name: value for name, value in attrs.asdict(rule).items() if name != "name"}


def _json(value: object) -> Response:
    return Response(body=jsontext.dumps(value), headers={"Content-Type": ollama_fields.WHOLE_TYPE})

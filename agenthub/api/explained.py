"""A described request, followed through the hub as one that came in, as far as to the moment of sending it."""

from __future__ import annotations

from typing import cast

import attrs
from aiohttp import web

from agenthub.api.asking import Asks, with_upload
from agenthub.api.bodies import check_body
from agenthub.api.context import dialect_of, make_caller
from agenthub.api.described import Described, check_head, has_route_length
from agenthub.api.enhancing import enhance
from agenthub.api.errors import NoRoute, failure_response, no_route, refuse_path
from agenthub.api.explained_prompt import explain_enhance, explain_prompt
from agenthub.api.hub import Hub
from agenthub.api.own import explain_own
from agenthub.api.routes import OPEN, OPERATIONS, find_route
from agenthub.api.streaming import with_authorization
from agenthub.canonical import JSON
from agenthub.dialects import jsontext
from agenthub.explaining import make_case, tell_case
from agenthub.middleware import Caller
from agenthub.offload import offload
from agenthub.settings import ClientSettings

_KEYS = ("Authorization", "x-api-key")


async def explain_request(hub: Hub, described: Described, own: Caller) -> dict[str, JSON]:
    """Return what the hub would do with the request, as JSON values.

    ``own`` is who wants to know: where clients have keys and the request shows none, it is asked in that name.
    """
    caller = make_caller(described.headers, dialect_of(described.path))
    explained = Explained(hub, described, caller)
    try:
        await explained.follow(own)
    except Exception as error:
        explained.refuse(failure_response(caller, error))
    return explained.told()


@attrs.define
class Explained:
    """A request on its way through the hub's doors, as far as it comes."""

    hub: Hub
    described: Described
    caller: Caller
    known_by: str = ""
    answer: dict[str, JSON] = attrs.field(factory=dict)
    asked: dict[str, JSON] = attrs.field(factory=dict)
    sections: dict[str, JSON] = attrs.field(factory=dict)

    async def follow(self, own: Caller) -> None:
        """Go the way that ``agenthub.api.routes.entrance`` has a request go; raises what stops it."""
        check_head(self.described, self.hub.settings.protection.max_header_bytes)
        if not has_route_length(self.described.path):
            raise NoRoute(404, "404 page not found")
        router, handler, described = await find_route(self.described)
        if not self._is_let_in(own, is_open=handler in OPEN):
            return
        if isinstance(handler, Asks):
            await self._dispatch(handler, described)
            return
        if handler in OPERATIONS:
            self.caller.rights.check_operation(OPERATIONS[handler])
        if handler is enhance:
            told = await explain_enhance(self.hub, described, self.caller)
            self.known_by = self.known_by or ("client in the body" if self.caller.client else "")
            self.answer = {"status": 200, "by": "hub", "body": None}
            self.sections = {"enhancement": told}
        elif handler is no_route:
            self.refuse(await refuse_path(router, cast(web.Request, described), self.caller))
        else:
            self.answer = {"status": 200, "by": "hub", "body": None}
            told, error = explain_own(self.hub, self.caller, handler, described)
            self.sections = {"upstream": told}
            if error is not None:
                raise error

    def _is_let_in(self, own: Caller, *, is_open: bool) -> bool:
        access, headers, caller = self.hub.access, self.described.headers, self.caller
        has_keys = bool(access.clients.keys) and not is_open
        lends_name = has_keys and bool(own.client) and not any(name in headers for name in _KEYS)
        stopped = access.judge(self.described, caller, is_open=is_open or lends_name)
        if stopped is not None:
            why = f"{stopped.header} not allowed" if stopped.header else "a preflight of a web page"
            self.answer = {"status": stopped.status, "by": "hub", "why": why, "body": None}
            return False
        if lends_name:
            caller.client, caller.rights = own.client, own.rights
        by_key = "key of who asks for the explanation" if lends_name else "key"
        self.known_by = by_key if has_keys else "X-Client-Name" if caller.client else ""
        return True

    async def _dispatch(self, handler: Asks, described: Described) -> None:
        hub, caller = self.hub, self.caller
        body = b"" if handler.uploads else described.body
        check_body(described.headers, len(body), hub.settings.max_body_bytes)
        codec, request = await offload(len(body), handler.read, described, body)
        if handler.uploads:
            request = with_upload(described, request, described.stream())
        request = with_authorization(hub, described, caller, request)
        self.asked = {"operation": request.operation, "stream": request.wants_stream}
        case = await make_case(hub.dispatcher, request, caller)
        if handler.has_prompt and case.is_allowed:
            self.sections["enhancement"] = await explain_prompt(hub, described, caller, codec.path, request)
        self.sections |= tell_case(case)
        if case.error is not None:
            raise case.error
        self.answer = {"status": None, "by": "cache" if case.is_settled else "backend", "body": None}

    def refuse(self, response: web.Response) -> None:
        """Note the error that the client would get."""
        body = response.body if isinstance(response.body, bytes) and response.body else None
        told = {name: response.headers[name] for name in ("Retry-After", "Allow") if name in response.headers}
        shown = None if body is None else jsontext.loads(body)
        self.answer = {"status": response.status, "by": "hub", "headers": told, "body": shown}

    def told(self) -> dict[str, JSON]:
        """Return all of it."""
        described, caller = self.described, self.caller
        head = {"method": described.method, "path": described.path, "dialect": caller.dialect}
        return {"request": head | self.asked, "answer": self.answer, "client": self._client(), **self.sections}

    def _client(self) -> JSON:
        settings, caller = self.hub.settings, self.caller
        if not self.known_by:
            return {"name": None, "known_by": None}
        limits = settings.clients.get(caller.client) or ClientSettings()
        return {
            "name": caller.client,
            "known_by": self.known_by,
            "is_configured": caller.client in settings.clients,
            "strict": self.hub.dispatcher.is_strict(caller),
            "requests_per_minute": limits.requests_per_minute,
            "max_concurrency": limits.max_concurrency,
            "models": list(caller.rights.models),
            "operations": sorted(caller.rights.operations),
        }

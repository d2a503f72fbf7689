"""``/health`` and ``/ready``, for whatever watches the process."""

from __future__ import annotations

import asyncio

from aiohttp import web

from agenthub.api.hub import SERVING, Hub, hub_of
from agenthub.api.responses import Response
from agenthub.dialects import jsontext
from agenthub.errors import AgentHubError
from agenthub.middleware import Backend, Caller
from agenthub.verbs import ping


async def health(http_request: web.Request, caller: Caller) -> Response:
    """The process is up."""
    return _json({"status": "ok"})


async def ready(http_request: web.Request, caller: Caller) -> Response:
    """200 if at least one backend answers, else 503; either way it says of each backend what it answers.

    A hub that is stopping is not ready, whatever they answer.
    """
    if http_request.app[SERVING].is_stopping:
        return _json({"status": "stopping"}, 503)
    hub = hub_of(http_request)
    backends = list(hub.router.backends.values())
    problems = await asyncio.gather(*(_problem(hub, backend) for backend in backends))
    states = {backend.name: problem or "ok" for backend, problem in zip(backends, problems, strict=True)}
    is_ready = not all(problems)
    return _json({"status": "ready" if is_ready else "unavailable", "backends": states}, 200 if is_ready else 503)


async def _problem(hub: Hub, backend: Backend) -> str:
    try:
        await ping(hub.router, backend)
    except AgentHubError as error:
        return str(error)
    return ""


def _json(value: object, status: int = 200) -> Response:
    return Response(body=jsontext.dumps(value), status=status, content_type="application/json")

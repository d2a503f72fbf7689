"""An explanation as text: what ``POST /hub/explain`` answers, for people."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from rich.console import Console
from rich.text import Text

from agenthub.canonical import JSON
from agenthub.dialects import jsontext

_WIDTH = 13


def print_explanation(console: Console, told: Mapping[str, JSON]) -> None:
    """Print what is told, a heading and its lines for each section."""
    for name, tell in _SECTIONS.items():
        if (section := told.get(name)) is None:
            continue
        for number, line in enumerate(tell(section)):
            lead = Text(f"{name.replace('_', ' ') if number == 0 else '':{_WIDTH}}", "bold")
            console.print(Text.assemble(lead, line), soft_wrap=True)


def _tell_request(request: JSON) -> Iterator[str]:
    kind = ", ".join([*([request["operation"]] if "operation" in request else []), f"{request['dialect']} dialect"])
    streamed = {True: ", streamed", False: ", whole"}.get(request.get("stream"), "")
    yield f"{request['method']} {request['path']} ({kind}{streamed})"


def _tell_answer(answer: JSON) -> Iterator[str]:
    status = answer["status"]
    if status is None:
        yield "the backend's" if answer["by"] == "backend" else "from the cache"
        return
    why = answer.get("why") or ""
    if isinstance(body := answer["body"], dict):
        error = body["error"]
        why = error if isinstance(error, str) else error["message"]
    yield f"{status} by the hub itself" + (f": {why}" if why else "")


def _tell_client(client: JSON) -> Iterator[str]:
    if client["known_by"] is None:
        yield "not known"
        return
    strict = ", strict" if client["strict"] else ""
    unknown = "" if client["is_configured"] else ", not in the settings"
    yield f"{client['name']}, known by {client['known_by']}{strict}{unknown}"


def _tell_model(model: JSON) -> Iterator[str]:
    name = model["asked"] if model["asked"] == model["upstream"] else f"{model['asked']} -> {model['upstream']}"
    yield f"{name}: {model['why']}"
    if model["options"]:
        yield f"options of the alias: {_plain(model['options'])}"


def _tell_candidates(candidates: JSON) -> Iterator[str]:
    for one in candidates:
        place = f"{one['place']}. " if one["place"] is not None else "-  "
        yield f"{place}{one['backend']}{' (would be asked)' if one['is_asked'] else ''}"
        yield from (f"   + {reason}" for reason in one["for"])
        yield from (f"   - {reason}" for reason in one["against"])
        queue, breaker = one["queue"], one["breaker"]
        most = f" of {queue['max_concurrency']}" if queue["max_concurrency"] else ""
        state = f"breaker {breaker['state']}, {breaker['failures']} failures; " if breaker is not None else ""
        yield f"     {state}{queue['in_flight']}{most} running, {queue['waiting']} waiting"


def _tell_mode(mode: JSON) -> Iterator[str]:
    wished = "" if mode["wished"] == mode["mode"] else f", picked by {mode['wished']}"
    yield f"{mode['mode']}{wished}; said by {mode['rule']}"
    for one in mode.get("weighed", ()):
        able = "" if one["answers"] and one["has_operation"] else ", not possible"
        lost = [f"{', '.join(one[fate])} {fate}" for fate in ("dropped", "rejected") if one[fate]]
        yield f"   {one['mode']}: {'; '.join(lost) or 'nothing lost'}{able}"


def _tell_losses(losses: JSON) -> Iterator[str]:
    for kind, lost in losses.items():
        if not lost:
            yield f"{kind}: {'nothing' if lost is not None else 'has no such operation'}"
        for loss in lost or ():
            yield f"{kind}: {loss['field']} {loss['fate']}" + (f", {loss['reason']}" if loss["reason"] else "")


def _tell_cache(cache: JSON) -> Iterator[str]:
    yield f"{cache['now']}: {cache['why']}"
    if cache["key"] is not None:
        yield f"key {cache['key']}"


def _tell_upstream(upstream: JSON) -> Iterator[str]:
    if not upstream["is_sent"]:
        yield "nothing is sent" + ("; without the answer that is there it would be:" if upstream["requests"] else "")
    for one in upstream["requests"]:
        about = one.get("about") or ("" if one["is_certain"] else "if the answer before does not do")
        yield f"{one['method']} {one['url']}  to {one['backend']}" + (f"  ({about})" if about else "")
        yield from (f"   {name}: {value}" for name, value in one["headers"])
        if one["body"]:
            yield f"   {one['body']}"
    if upstream.get("open_end"):
        yield f"and then: {upstream['open_end']}"


def _tell_enhancement(enhancement: JSON) -> Iterator[str]:
    if enhancement["why_not"] is not None:
        yield f"none: {enhancement['why_not']}"
        return
    yield f"by the rule {enhancement['rule']} and {', '.join(enhancement['models'])}; {enhancement['about']}"
    if enhancement["upstream"] is not None:
        yield from _tell_upstream(enhancement["upstream"])


def _plain(value: JSON) -> str:
    return jsontext.dumps(value).decode("utf-8", "replace")


_SECTIONS: Mapping[str, Callable[[JSON], Iterator[str]]] = {
    "request": _tell_request,
    "answer": _tell_answer,
    "client": _tell_client,
    "model": _tell_model,
    "enhancement": _tell_enhancement,
    "candidates": _tell_candidates,
    "api_mode": _tell_mode,
    "losses": _tell_losses,
    "cache": _tell_cache,
    "upstream": _tell_upstream,
}

"""What an answer of /api/show must have, whatever the upstream left out.

Source: Ollama docs/api.md "Show Model Information".
"""

from __future__ import annotations

from collections.abc import Mapping

from agenthub.canonical import CAPABILITIES, JSON, ModelInfo, RelayRequest
from agenthub.dialects import answerjson, jsontext
from agenthub.dialects.capabilities import capabilities_of, parse_capabilities, parse_context_length
from agenthub.dialects.framing import BOM


def complete(request: RelayRequest, body: bytes) -> bytes:
    """Return the answer with ``model_info``, an object, and ``capabilities``, not empty; other bytes stay as they are.

    ollama-python needs the first and editors the second; Ollama 0.5 had no capabilities. Raises ValueError.
    """
    body = body.removeprefix(BOM)
    shown = _parse(body)
    info, changes = shown.get("model_info"), dict[str, JSON]()
    if not isinstance(info, dict):
        changes["model_info"] = {}
    elif info and "general.architecture" not in info:
        # Ollama's own command line breaks down without it; llama.cpp leaves it out.
        changes["model_info"] = {"general.architecture": _architecture(info) or _family(shown) or "unknown"} | info
    capabilities = shown.get("capabilities")
    if request.capabilities:
        changes["capabilities"] = request.capabilities
    elif not isinstance(capabilities, list) or not capabilities:
        changes["capabilities"] = guess_capabilities(shown)
    return jsontext.set_top_level(body, changes) if changes else body


def complete_for_copilot(request: RelayRequest, body: bytes) -> bytes:
    """Return the same for GitHub Copilot, which shows ``general.basename`` to its user: the name that was asked for."""
    body = complete(request, body)
    info = jsontext.get_top_level(body, "model_info")
    named = jsontext.set_top_level(info, {"general.basename": request.model})
    return jsontext.set_top_level(body, {"model_info": jsontext.fragment(named.decode("utf-8"))})


def is_shown(body: bytes) -> bool:
    """Say whether a body is an answer of /api/show, and not some server's word for not knowing it."""
    try:
        shown = answerjson.loads(body)
    except ValueError:
        return False
    return isinstance(shown, dict) and "error" not in shown and not _SIGNS.isdisjoint(shown)


_LENGTH = ".context_length"
_SIGNS = frozenset({"model_info", "details", "modelfile", "capabilities", "template"})


def _parse(body: bytes) -> Mapping[str, JSON]:
    shown = answerjson.loads(body)
    if not isinstance(shown, dict):
        raise ValueError("not a JSON object")
    return shown


def complete_by_list(body: bytes, model: ModelInfo | None) -> bytes:
    """Return what a server that is no Ollama shows of a model, with what its list tells besides; raises ValueError."""
    shown, listed = _parse(body), model.entry if model is not None else {}
    info, changes = shown.get("model_info"), dict[str, JSON]()
    info = info if isinstance(info, dict) else {}
    length = parse_context_length(listed)
    if length is not None and not _architecture(info):
        family = str(info.get("general.architecture") or _family(shown) or "unknown")
        changes["model_info"] = {"general.architecture": family} | info | {f"{family}.context_length": length}
    told = {*parse_capabilities(shown), *(capabilities_of(model) if model is not None else ())}
    if told and told != set(shown.get("capabilities") or ()):
        changes["capabilities"] = [word for word in CAPABILITIES if word in told]
    return jsontext.set_top_level(body, changes) if changes else body


def _architecture(info: Mapping[str, JSON]) -> str:
    """Return the name under which the context length stands, which clients look for by ``general.architecture``."""
    lengths = [key for key in info if key.endswith(_LENGTH)]
    return lengths[0].removesuffix(_LENGTH) if lengths else ""


def _family(shown: Mapping[str, JSON]) -> str:
    details = shown.get("details")
    return str(details.get("family") or "") if isinstance(details, dict) else ""


def guess_capabilities(shown: Mapping[str, JSON]) -> list[str]:
    """Return what a model can do, by the signs that newer Ollamas go by: its metadata and its template's variables."""
    info = shown.get("model_info")
    keys = list(info) if isinstance(info, dict) else []
    if "bert" in _family(shown) or any(key.endswith(".pooling_type") for key in keys):
        return ["embedding"]
    template = str(shown.get("template") or "")
    signs = {
        "completion": True,
        "tools": ".Tools" in template,
        "insert": ".Suffix" in template,
        "vision": bool(shown.get("projector_info")) or any(".vision." in key for key in keys),
    }
    return [capability for capability, is_there in signs.items() if is_there]

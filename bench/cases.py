"""The cases, how the answers to them are checked, and how they are measured."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Sequence
from typing import Any, Final

import attrs

from bench import processes, traffic
from bench.processes import BenchError, Client, Program


@attrs.frozen
class Case:
    """One comparison; ``path`` is where the bare program is asked what the hub is asked."""

    name: str
    title: str
    path: str
    against: str
    aim: float | None
    check: Callable[[dict[str, str], bytes], bool]


@attrs.frozen
class Result:
    """What came out, one item a round: answers a second of both, and processor time in microseconds an answer."""

    case: Case
    hub: Sequence[float]
    bare: Sequence[float]
    hub_cpu_us: Sequence[float]
    bare_cpu_us: Sequence[float]

    @property
    def ratios(self) -> list[float]:
        """How much of the bare program's rate the hub reached, round by round."""
        return [ours / theirs for ours, theirs in zip(self.hub, self.bare, strict=True)]

    def figures(self) -> dict[str, Any]:
        """Return the figures for the table and for JSON: medians, and the range of the ratio."""
        ratios = self.ratios
        return {
            "hub_per_s": round(statistics.median(self.hub), 1),
            "bare_per_s": round(statistics.median(self.bare), 1),
            "ratio": round(statistics.median(ratios), 3),
            "ratio_min": round(min(ratios), 3),
            "ratio_max": round(max(ratios), 3),
            "hub_cpu_us": round(statistics.median(self.hub_cpu_us), 1),
            "bare_cpu_us": round(statistics.median(self.bare_cpu_us), 1),
            "aim": self.case.aim,
        }


def _is_whole(headers: dict[str, str], body: bytes) -> bool:
    answer = json.loads(body)
    message = answer.get("message") or answer["choices"][0]["message"]
    return bool(message["content"] == traffic.TEXT) and headers.get("x-agenthub-cache") in (None, "bypass")


def _is_hit(headers: dict[str, str], body: bytes) -> bool:
    return headers.get("x-agenthub-cache") == "hit" and json.loads(body)["message"]["content"] == traffic.TEXT


def _is_stream(headers: dict[str, str], body: bytes) -> bool:
    *frames, done, _ = body.decode().split("\n\n")
    chunks = [json.loads(frame.removeprefix("data: ")) for frame in frames]
    texts = [choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"]]
    counted = chunks[-1]["usage"]["completion_tokens"] == traffic.CHUNKS
    return counted and done == "data: [DONE]" and "".join(texts) == traffic.TEXT and len(texts) > traffic.CHUNKS


CONNECTIONS: Final = 32
CONSTANT: Final = "/constant"
_PROXY: Final = "aiohttp proxy that parses and renders"
CASES: Final = (
    Case("dispatch", "whole answer, Ollama client", "/api/chat", _PROXY, 0.90, _is_whole),
    Case("floor", "the same, against the floor", "/lean", "aiohttp's server and parser alone", 0.55, _is_whole),
    Case("cross", "whole answer, OpenAI client", "/api/chat", _PROXY, None, _is_whole),
    Case("hit", "cache hit", CONSTANT, "aiohttp answering a constant", 0.45, _is_hit),
    Case(
        "stream",
        f"stream of {traffic.CHUNKS} tokens, translated",
        "/v1/chat/completions",
        "aiohttp translator",
        0.70,
        _is_stream,
    ),
)


def first_answer(case: Case, program: Program, path: str) -> bytes:
    """Return the body of the first good answer to a case; raise BenchError if even the second is not good."""
    for _ in range(2):  # the first fills the cache
        status, headers, answer = processes.ask(program.port, "POST", path, traffic.body(case.name))
        if status == 200 and case.check(headers, answer):
            return answer
    raise BenchError(f"{case.title}: status {status}, {headers}\n{answer[:2000].decode('utf-8', 'replace')}")


def measure(case: Case, client: Client, hub: Program, bare: Program, *, rounds: int, seconds: float) -> Result:
    """Let both take turns, the first round only to warm up; raise BenchError."""
    measured: list[tuple[float, ...]] = []
    turns = [(hub, traffic.path(case.name)), (bare, case.path)]
    for number in range(rounds + 1):
        # Who goes first changes, so that neither always follows the other.
        order = -1 if number % 2 else 1
        ours, theirs = [_turn(case, client, *turn, seconds) for turn in turns[::order]][::order]
        measured.append((ours[0], theirs[0], ours[1], theirs[1]))
    return Result(case, *zip(*measured[1:], strict=True))


def _turn(case: Case, client: Client, program: Program, path: str, seconds: float) -> tuple[float, float]:
    before = program.cpu_s()
    done = client.run(case=case.name, port=program.port, path=path, seconds=seconds, connections=CONNECTIONS)
    return done["answers"] / done["seconds"], 1e6 * (program.cpu_s() - before) / done["answers"]

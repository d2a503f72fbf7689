"""Writes docs/wire.md from the ledger: `python -m tests.wire_document`. A test holds the two together."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from agenthub.dialects.ledger import BY_OLLAMA, TO_NATIVE, TO_OPENAI, Row, Table, Treatment
from agenthub.dialects.ledger.to_openai import RAW

PAGE = Path(__file__).resolve().parent.parent / "docs" / "wire.md"

HEAD = """# What becomes of each field

This page is generated from the loss ledger (`agenthub/dialects/ledger/`), which the translation, the header
`X-AgentHub-Dropped` and strict mode go by. Change the ledger, then run `python -m tests.wire_document`.

There are four lanes. Where the client's dialect is the upstream's (Ollama's clients through the `native` adapter,
OpenAI's through the `openai` adapter) every field, known or not, goes through byte for byte; only an aliased `model` is
rewritten, and at an Ollama's `/v1` what that reads only otherwise: `max_completion_tokens` becomes `max_tokens`, and a
`prompt` that is a list of texts one text, with a call for each where there are several. The first two tables below are
for the lanes that cross, the last for what an Ollama passes over in silence of what reaches it byte for byte. In them a
field is

* **carried**: it goes upstream, maybe under another name;
* **emulated**: the hub does it itself;
* **dropped**: it is left out, and named in `X-AgentHub-Dropped` and in the log line; with `X-AgentHub-Strict: true` or
  the setting `strict`, the request is refused instead;
* **rejected**: the answer would be wrong without it, so it is a 400 that names the field.

A value that no row is about asks for nothing that the other side would not do anyway. A field that is in no table has
no known meaning on the other side: it is dropped. OpenAI-compatible servers differ, and the setting `flavour` of a
backend says which one it is (`generic`, `ollama`, `openai`, `vllm`, `llamacpp`): a row says so where one of them is
treated otherwise. With `auto`, the default, it is `ollama` where the server answers `/api/version` as an Ollama does,
else `generic`.

In the lanes that cross, a server may refuse what the tables say: a 400 or 422 names it in `param`, in `loc` or in its
text. As long as nothing of an answer has come it is asked again, and what it refuses is remembered for the model for
ten minutes, or until a check of the backend fails:

* `max_tokens` becomes `max_completion_tokens`, or the other way round, where the server calls the name unsupported;
  where neither is taken, the client gets the refusal;
* `response_format` of type `json_object` becomes a `json_schema` of any object, and where that is refused too it is
  left out; a schema of the client's own is not, so the client gets the refusal;
* `reasoning_effort` `max` becomes `xhigh` where the refusal names that, else `high`; any other effort is left out, as
  is `chat_template_kwargs`;
* `stream_options` and `encoding_format` are left out, which loses nothing but the token counts of streams;
* `messages.reasoning` and `messages.reasoning_content` are left out;
* `logprobs`, `logit_bias`, `tool_choice`, `parallel_tool_calls` and all options but `stop` are left out where the
  server calls the member itself unsupported, or takes only its default value.

The values of the limits and of the members in the last point are the client's, so an error that repeats the value, or
that compares it with a limit, is for the client to correct, and nothing is left out or renamed. Words in quotes and the
sent value do not count as the server's words. Such a member is remembered where `code` is `unsupported_parameter` (or
`unsupported_value` with the default named), the type at its `loc` is `extra_forbidden`, or `param` names it and the
text calls it unsupported. Where only the text names it, two different values must have been refused. What is refused
only beside another member ("not supported when …") is left out of that request alone.

What is left out, and an effort that became `high`, counts as dropped. An Ollama that knows no levels of thinking is
asked just to think for ten minutes, and `reasoning_effort` is dropped.
"""

ENDPOINTS = (
    (
        "Ollama's clients, OpenAI-compatible upstream",
        TO_OPENAI,
        ("/api/chat", "/api/generate", "/api/embed, /api/embeddings"),
    ),
    (
        "OpenAI's clients, Ollama's own API upstream",
        TO_NATIVE,
        ("/v1/chat/completions", "/v1/completions", "/v1/embeddings"),
    ),
    (
        "OpenAI's clients, Ollama's OpenAI-compatible API (`flavour` \"ollama\", or found out)",
        BY_OLLAMA,
        ("/v1/chat/completions of an Ollama", "/v1/completions of an Ollama", "/v1/embeddings of an Ollama"),
    ),
)
OPERATIONS = ("chat", "generate", "embed")


def render() -> str:
    """Return the whole page."""
    parts = [HEAD]
    for title, table, paths in ENDPOINTS:
        parts.append(f"\n## {title}\n")
        for operation, path in zip(OPERATIONS, paths, strict=True):
            parts.append(f"\n### {path}\n\n| field | when | treatment | becomes |\n|---|---|---|---|\n")
            parts += [f"{line}\n" for line in lines(table, operation)]
    return "".join(parts)


def lines(table: Table, operation: str) -> Iterator[str]:
    """Yield the lines for one endpoint, one or more for each row."""
    for row in table.rows:
        if operation in row.operations:
            yield line(row, "", row.treatment, row.home)
            for flavour, (treatment, home) in row.flavours.items():
                yield line(row, f"flavour {flavour}", treatment, home)
    if table is TO_OPENAI and operation == "generate":
        for row in RAW.rows:
            yield line(row, "with raw or suffix", row.treatment, row.home)


def line(row: Row, where: str, treatment: Treatment, home: str) -> str:
    """Return one line of a table."""
    conditions = [row.when.words if row.when else "", where]
    when = ", ".join(condition for condition in conditions if condition)
    becomes = home or (row.reason if treatment is Treatment.REJECTED else "")
    if treatment is Treatment.CARRIED and " " not in becomes:
        becomes = f"`{becomes}`"
    return f"| `{row.field}` | {when} | {treatment} | {becomes} |"


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")

"""The loss ledger: what becomes of each field of one dialect at an upstream of the other.

One table a direction, used by the translation, by the header ``X-AgentHub-Dropped``, by strict mode and by the
documentation. Within one dialect the hub loses nothing, so it has no table, but for what Ollama passes over
in silence of the dialect that is not its own.
"""

from agenthub.dialects.ledger.by_ollama import BY_OLLAMA
from agenthub.dialects.ledger.noted import Noted
from agenthub.dialects.ledger.rows import Row, Table, Treatment, When
from agenthub.dialects.ledger.to_native import TO_NATIVE
from agenthub.dialects.ledger.to_openai import RAW, TO_OPENAI

FIELDS = frozenset(
    row.field.partition(".")[0] for table in (BY_OLLAMA, TO_NATIVE, TO_OPENAI, RAW) for row in table.rows
)
"""Every field of a body that some API or the hub itself understands."""

__all__ = ["BY_OLLAMA", "FIELDS", "TO_NATIVE", "TO_OPENAI", "Noted", "Row", "Table", "Treatment", "When"]

"""The loss ledger: what becomes of each field of one dialect at an upstream of the other.

One table a direction, used by the translation, by the header ``X-AgentHub-Dropped``, by strict mode and by the
documentation. Within one dialect nothing is lost, so there is no table for it.
"""

from agenthub.dialects.ledger.rows import Row, Table, Treatment, When
from agenthub.dialects.ledger.to_native import TO_NATIVE
from agenthub.dialects.ledger.to_openai import TO_OPENAI

__all__ = ["TO_NATIVE", "TO_OPENAI", "Row", "Table", "Treatment", "When"]

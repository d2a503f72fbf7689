"""``/openapi.json``: what each route takes and answers, one module per noun, and the document made of it."""

from agenthub.api.openapi.document import OPERATIONS, make_document, plain_path

__all__ = ["OPERATIONS", "make_document", "plain_path"]

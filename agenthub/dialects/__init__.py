"""Wire formats, one room each: pure functions between bytes and the canonical requests and events. No I/O."""

from agenthub.dialects import jsontext, ollama, openai
from agenthub.dialects.codec import Codec, StreamParser
from agenthub.dialects.whole_answer import parse_whole

__all__ = ["Codec", "StreamParser", "jsontext", "ollama", "openai", "parse_whole"]

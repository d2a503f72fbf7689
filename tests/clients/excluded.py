"""What is excluded, and why. Each case must still be there and must still fail, or the run fails."""

from collections.abc import Mapping

import pytest

COLLECTED = pytest.StashKey[set[str]]()
"""The names of all tests that were collected, those that were deselected too."""

_NO_TOOLS = "it asks a named tool for the structure, and the real tiny model has no tools"
_NO_WORD = "OpenAI's API has no word for think: true, so the hub drops it and says so"

EXCLUDED: Mapping[str, str] = {
    "suite_langchain::TestRealChatOpenAINative::test_structured_output_pydantic_2_v1": _NO_TOOLS,
    "suite_langchain::TestRealChatOpenAIOpenAI::test_structured_output_pydantic_2_v1": _NO_TOOLS,
    "suite_llm::test_thinking[openai-adapter]": _NO_WORD,
}
"""From a test, as ``suite_x::TestY::test_z[parameter]``, to the reason."""

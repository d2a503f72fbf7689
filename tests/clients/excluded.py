"""What is excluded, and why. Each case must still be there and must still fail, or the run fails."""

from collections.abc import Mapping

import pytest

COLLECTED = pytest.StashKey[set[str]]()
"""The names of all tests that were collected, those that were deselected too."""

_NO_FORCE = (
    "tool_choice is forced on a prompt that calls for no tool: nothing in Ollama's API can force the model, and the hub"
    " says so rather than pass on an answer without a call"
)
_NO_TOOLS = "it asks a named tool for the structure, and the real tiny model has no tools"
_COMPLETION_ONLY = (
    "through the openai adapter /api/show says that every model can only complete, so the plugin offers nothing else"
)

EXCLUDED: Mapping[str, str] = {
    "suite_langchain::TestChatOpenAINative::test_tool_choice": _NO_FORCE,
    "suite_langchain::TestRealChatOpenAINative::test_structured_output_pydantic_2_v1": _NO_TOOLS,
    "suite_langchain::TestRealChatOpenAIOpenAI::test_structured_output_pydantic_2_v1": _NO_TOOLS,
    "suite_llm::test_the_models[openai-adapter]": _COMPLETION_ONLY,
    "suite_llm::test_tools[openai-adapter-streamed]": _COMPLETION_ONLY,
    "suite_llm::test_tools[openai-adapter-whole]": _COMPLETION_ONLY,
    "suite_llm::test_a_picture[openai-adapter]": _COMPLETION_ONLY,
    "suite_llm::test_thinking[openai-adapter]": _COMPLETION_ONLY,
    "suite_llm::test_embeddings[openai-adapter]": _COMPLETION_ONLY,
    "suite_llm::test_vectors_of_the_real_ollama[openai-adapter]": _COMPLETION_ONLY,
}
"""From a test, as ``suite_x::TestY::test_z[parameter]``, to the reason."""

"""What is taken off an answer, and what is left on it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agenthub.enhancement.cleaning import Settling, clean

PROMPT = "Write a haiku about autumn rain."

DECORATED = [
    PROMPT,
    f"  {PROMPT}\n",
    f"<think>\nThe user wants a haiku.\n</think>\n\n{PROMPT}",
    f"<THINKING>hm</THINKING><think>more</think>{PROMPT}",
    f"The user wants a haiku.\n</think>\n{PROMPT}",
    f"Here is the improved prompt:\n\n{PROMPT}",
    f"Here's a clearer version of your prompt: {PROMPT}",
    f"Here\u2019s the rewritten prompt:\n{PROMPT}",
    f"Sure! Here is the improved prompt:\n{PROMPT}",
    f"Certainly, here is an improved version: {PROMPT}",
    f"**Improved prompt:**\n{PROMPT}",
    f"### Enhanced Prompt:\n{PROMPT}",
    f"The rewritten prompt: {PROMPT}",
    f"Improved version of the prompt:\n{PROMPT}",
    f"```\n{PROMPT}\n```",
    f"```text\n{PROMPT}\n```",
    f"~~~~markdown\n{PROMPT}\n~~~~",
    f'"{PROMPT}"',
    f"“{PROMPT}”",
    f"'{PROMPT}'",
    f'<think>x</think>Sure, here is the improved prompt:\n\n```\n"{PROMPT}"\n```\n',
]


@pytest.mark.parametrize("text", DECORATED)
def test_what_stands_around_the_prompt_is_taken_off(text: str) -> None:
    """Thoughts, a preamble, a fence or quotes around the whole, each and all together."""
    assert clean(text, "autumn haiku") == PROMPT


KEPT = [
    "Here is my poem: mend it.",
    "Here are three words: cat, dog, bird. Use them all.",
    "Sure signs of rain: list five.",
    "Compare a better mousetrap: old against new.",
    'Explain "entropy" and "energy"',
    '"To be" or "not to be": who said it, and where?',
    "'tis a test of what's kept'",
    "```python\nprint(1)\n```\nWhat does this print?",
    "```\na\n```\nand\n```\nb\n```",
    "Explain:\n```\nx = 1\n```",
    "What does <think> mean in a model's answer?",
    "Improved prompt:",
    "The final version of the report is due: write a reminder.\nImproved prompt: no",
]


@pytest.mark.parametrize("text", KEPT)
def test_what_belongs_to_the_prompt_stays(text: str) -> None:
    """A colon, quotes inside, fences that are a part, a preamble with nothing behind it."""
    assert clean(text, "something else") == text


def test_a_fence_with_code_in_it() -> None:
    """Fences within the fence do not end it, as long as they say their language."""
    inside = "Explain this:\n```python\nprint(1)\n```\nin one line."
    assert clean(f"```\n{inside}\n```", "explain") == inside


@pytest.mark.parametrize(
    "text", ['"Quoted"', "```\ncode\n```", "Improved prompt: write more", "<think>a</think> is a tag"]
)
def test_what_the_prompt_had_before_stays(text: str) -> None:
    """A prompt that itself was fenced, quoted or headed is not stripped of that."""
    assert clean(text, text) == text


@pytest.mark.parametrize("text", ["", "  \n", "<think>never ends", "<think>only thoughts</think>", '""', "```\n```"])
def test_nothing_but_decoration(text: str) -> None:
    """An answer that holds no prompt is empty."""
    assert clean(text, "original") == ""


PIECES = st.lists(
    st.sampled_from(
        ["<think>", "hm", "</think>", "Here is the improved prompt:", "Sure!", " ", "\n", "```", "text", '"', "“", "”",
         "Write", " a", " haiku", ".", "Improved", " prompt", ":", "**", "'", "Here", "word " * 90]
    )
)  # fmt: skip


@given(PIECES)
def test_cleaning_twice_changes_nothing(pieces: list[str]) -> None:
    """What is clean stays as it is."""
    once = clean("".join(pieces), "original")
    assert clean(once, "original") == once


@given(PIECES)
def test_what_is_told_piece_by_piece_is_the_cleaned_answer(pieces: list[str]) -> None:
    """Nothing is told that is taken off later, wherever the answer is cut; but thoughts that were never opened."""
    text = "".join(pieces)
    settling = Settling("original")
    told = [settling.feed(piece) for piece in pieces] + [settling.close()]
    if "</think>" not in text:
        assert "".join(told) == clean(text, "original")
    else:
        assert "".join(told) == settling.given


def test_a_plain_answer_is_told_as_it_comes() -> None:
    """From the second word on, but for blanks that might be the last."""
    settling = Settling("haiku")
    assert [settling.feed(piece) for piece in ("Write", " a", " haiku", " ", "now", "\n")] == [
        "",
        "Write a",
        " haiku",
        "",
        " now",
        "",
    ]
    assert settling.close() == ""


def test_a_preamble_is_never_told() -> None:
    """Words that may be one are held back until they are not, or the end."""
    settling = Settling("haiku")
    told = [settling.feed(piece) for piece in ("Here is", " the improved prompt", ":\n", "Write", " a haiku", " now")]
    assert told == ["", "", "", "", "Write a haiku", " now"]


@pytest.mark.parametrize("text", ["Improved prompt: " * 1000, "<think></think>" * 1000, "#" * 16000, "a" * 16000])
def test_what_a_model_repeats_without_end_costs_little(text: str) -> None:
    """It is looked at so often, and then held back to the end, when it is cleaned as ever."""
    settling = Settling("original")
    looks = []
    settling._find_start = lambda text: looks.append(1)  # type: ignore[method-assign,assignment,func-returns-value]
    assert [settling.feed(piece) for piece in text] == [""] * len(text)
    assert len(looks) == 256
    assert settling.close() == clean(text, "original")

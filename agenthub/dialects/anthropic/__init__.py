"""Anthropic's Messages API: its errors. The hub does not serve its endpoints yet, and says so in its own words."""

from agenthub.dialects.anthropic.errors import WHOLE_TYPE, render_error

__all__ = ["WHOLE_TYPE", "render_error"]

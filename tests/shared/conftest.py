"""What the tests of sharing have in common: a Redis of their own."""

from tests.redis_server import redis_server

__all__ = ["redis_server"]

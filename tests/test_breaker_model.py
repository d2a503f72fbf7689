"""The breaker against a model of it: whatever calls come, end and overlap, both say the same."""

from __future__ import annotations

import attrs
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from agenthub.errors import BackendUnavailable
from agenthub.middleware.circuit_breaker import Breaker
from agenthub.settings import CircuitBreakerSettings
from tests.hubs import Clock


@attrs.define(eq=False)
class Call:
    """One call under way; ``counts`` as long as the breaker stays as it was when the call was admitted."""

    ticket: int
    counts: bool


class BreakerModel(RuleBasedStateMachine):
    """Says in words of its own what a breaker does, and holds a real one to it."""

    calls = Bundle("calls")

    @initialize(threshold=st.integers(1, 4), probes=st.integers(1, 3), open_for_s=st.sampled_from([1.0, 30.0]))
    def begin(self, threshold: int, probes: int, open_for_s: float) -> None:
        self.clock, self.told, self.moves = Clock(), list[tuple[str, str]](), 0
        self.settings = CircuitBreakerSettings(threshold, open_for_s, probes)
        self.breaker = Breaker("b", self.settings, self.clock, lambda _, old, new: self.told.append((old, new)))
        self.breaker.moved = self.count_move
        self.state, self.failures, self.until = "closed", 0, 0.0
        self.live: list[Call] = []
        self.expected: list[tuple[str, str]] = []
        self.own_moves = 0

    def count_move(self) -> None:
        self.moves += 1

    def become(self, state: str, *, is_own: bool = True) -> None:
        self.expected.append((self.state, state))
        self.state, self.failures, self.live = state, 0, []
        self.own_moves += is_own
        if state == "open":
            self.until = self.clock.now + self.settings.open_for_s

    def forget(self, call: Call) -> bool:
        """Take a call off the list; say whether its verdict counts."""
        counts = call in self.live
        if counts:
            self.live.remove(call)
        return counts

    @rule(target=calls, is_probe=st.booleans())
    def admit(self, is_probe: bool) -> Call:
        is_over = self.state == "open" and self.clock.now >= self.until
        if self.state == "closed":
            call = Call(self.breaker.admit(is_probe=is_probe), counts=True)
        elif not is_probe and (is_over or self.state == "half_open"):
            call = Call(self.breaker.admit(is_probe=False), counts=False)
        else:
            if is_over:
                self.become("half_open")
            if self.state == "open" or len(self.live) >= self.settings.half_open_probes:
                with pytest.raises(BackendUnavailable) as refused:
                    self.breaker.admit(is_probe=is_probe)
                assert refused.value.retry_after_s == max(self.until - self.clock.now, 1.0)
                assert self.breaker.is_wanted
                return Call(-2, counts=False)
            call = Call(self.breaker.admit(is_probe=is_probe), counts=True)
        if call.counts:
            self.live.append(call)
        assert self.breaker.is_probe(call.ticket) == (self.state == "half_open" and call.counts)
        return call

    @rule(call=consumes(calls))
    def fail(self, call: Call) -> None:
        if self.forget(call):
            self.failures += 1
            if self.state == "half_open" or self.failures >= self.settings.failure_threshold:
                self.become("open")
        self.breaker.failed(call.ticket)

    @rule(call=consumes(calls))
    def succeed(self, call: Call) -> None:
        if self.forget(call):
            self.failures = 0
            if self.state == "half_open":
                self.become("closed")
        self.breaker.succeeded(call.ticket)

    @rule(target=calls, call=consumes(calls))
    def prove(self, call: Call) -> Call:
        """A probe's answer begins: the rest of its call is one of a closed breaker."""
        if not self.breaker.is_probe(call.ticket):
            return call
        assert self.forget(call)
        self.become("closed")
        begun = Call(self.breaker.proved(call.ticket), counts=True)
        self.live.append(begun)
        return begun

    @rule(call=consumes(calls))
    def release(self, call: Call) -> None:
        self.forget(call)
        self.breaker.released(call.ticket)

    @rule(seconds=st.sampled_from([0.25, 1.0, 29.0, 30.0]))
    def wait(self, seconds: float) -> None:
        self.clock.now += seconds

    @rule()
    def reset(self) -> None:
        if self.state != "closed":
            self.become("closed")
        else:
            self.own_moves += 1
        self.failures = 0
        self.breaker.reset()

    @rule(state=st.sampled_from(["closed", "open", "half_open"]), left_s=st.sampled_from([0.0, 0.5, 5.0]))
    def adopt(self, state: str, left_s: float) -> None:
        """Another replica says so: its verdict goes before a probe here, its probe does not."""
        if state == "closed":
            if self.state != "closed":
                self.become("closed", is_own=False)
        elif state == "open" or self.state != "half_open":
            if self.state != "open":
                self.become("open", is_own=False)
            self.until = self.clock.now + left_s
        self.breaker.adopt(state, left_s)

    @invariant()
    def is_the_same(self) -> None:
        if not hasattr(self, "breaker"):
            return
        assert (self.breaker.state, self.breaker.failures) == (self.state, self.failures)
        assert (self.told, self.moves) == (self.expected, self.own_moves)
        probes = len(self.live) if self.state == "half_open" else 0
        assert self.breaker.probes == probes <= self.settings.half_open_probes
        if self.state == "open":
            assert self.breaker.wait_s == pytest.approx(self.until - self.clock.now)


class TestBreaker(BreakerModel.TestCase):  # type: ignore[misc, name-defined]
    """A hundred and fifty lives of a breaker, of up to fifty steps each."""

    settings = settings(max_examples=150, stateful_step_count=50)

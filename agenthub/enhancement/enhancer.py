"""The enhancer: puts a prompt better by its rule, or says why it stays as it is."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable

import attrs
import structlog

from agenthub.dispatch import Dispatcher
from agenthub.enhancement.asking import Question, Rewritten, Tell, Unfit, ask_model
from agenthub.enhancement.result import Enhancement
from agenthub.enhancement.rules import Rule, Rules
from agenthub.errors import AgentHubError, DispatchError, Forbidden, RateLimited
from agenthub.middleware import Caller
from agenthub.plugins import Plugins

_HOOK = "agenthub_enhance_prompt"
_log = structlog.get_logger("agenthub")


@attrs.define
class Enhancer:
    """Asks the plugins, then the models of the rule, by the hub's own dispatcher.

    ``model`` is asked where nothing else names one. ``clock`` gives monotonic seconds.
    """

    dispatcher: Dispatcher
    plugins: Plugins
    rules: Rules
    model: str = ""
    clock: Callable[[], float] = time.monotonic

    async def enhance(
        self,
        prompt: str,
        caller: Caller,
        *,
        model: str = "",
        instead: str = "",
        authorization: str = "",
        tell: Tell | None = None,
    ) -> Enhancement:
        """Return what became of a prompt; raises only what ``tell`` raises.

        ``caller`` is for the questions to models alone. ``model`` is asked and no other; ``instead`` where the rule
        names none. With ``tell`` each piece of the answer is told as soon as it is settled.
        """
        rule, started_at = self.rules.of(caller.client), self.clock()
        found = Enhancement(original=prompt, enhanced=prompt, rule=rule)
        if reason := rule.reason_to_skip(prompt):
            return attrs.evolve(found, error=reason)
        models = self.models(rule, model, instead)
        run = _Run(self, Question(prompt, rule, caller, authorization), models, tell)
        try:
            async with asyncio.timeout(rule.timeout_s or None):
                found = _enhanced(found, await run.rewrite())
        except AgentHubError as error:
            found = attrs.evolve(found, error=run.explain() or str(error), is_forbidden=run.is_forbidden)
        except TimeoutError:
            found = attrs.evolve(found, error=run.explain(f"no answer within {rule.timeout_s:g} s"))
        except Exception as error:
            if run.is_untold:
                raise
            _log.error("agenthub.enhancement_crashed", request_id=caller.request_id, exc_info=error)
            found = attrs.evolve(found, error="internal error")
        return attrs.evolve(found, elapsed_s=self.clock() - started_at)

    def models(self, rule: Rule, model: str = "", instead: str = "") -> tuple[str, ...]:
        """Return the models that are asked, one after the other: ``model`` alone, else those of the rule."""
        return (model,) if model else rule.models(instead or self.model)


def _enhanced(found: Enhancement, made: Rewritten) -> Enhancement:
    facts = attrs.evolve(found, model=made.model, is_cached=made.is_cached, usage=made.usage)
    if made.text == found.original.strip():
        return attrs.evolve(facts, error="there is nothing to put better")
    return attrs.evolve(facts, enhanced=made.text)


@attrs.define
class _Run:
    """One prompt on its way through plugins and models; ``failures`` are the models that were asked, each with why not.

    It keeps no error: that refers to the frames that it went through, and these to the run.
    """

    enhancer: Enhancer
    question: Question
    models: tuple[str, ...]
    tell: Tell | None
    failures: list[tuple[str, str]] = attrs.field(factory=list)
    is_forbidden: bool = False
    """True where the client may use none of the models that were asked."""
    has_told: bool = False
    is_untold: bool = False
    """True where ``tell`` raised: whoever asked cannot be told any more."""

    async def rewrite(self) -> Rewritten:
        """Return what was made of the prompt; raises AgentHubError."""
        if (text := await self._ask_plugins()) is not None:
            return Rewritten(text)
        for number, model in enumerate(self.models, 1):
            try:
                return await self._ask(model)
            except AgentHubError as error:
                self.is_forbidden = isinstance(error, Forbidden) and (self.is_forbidden or not self.failures)
                self.failures.append((model, str(error)))
                if self.has_told or isinstance(error, RateLimited) or number == len(self.models):
                    raise
        raise DispatchError(self.question.rule.without_model)

    def explain(self, late: str = "") -> str:
        """Return what became of each model that was asked, and that it was too ``late``; empty where none was."""
        if len(self.failures) == 1 and not late:
            return self.failures[0][1]
        return "; ".join([*(f"{model}: {reason}" for model, reason in self.failures), *([late] if late else [])])

    async def _ask(self, model: str) -> Rewritten:
        tell, dispatcher = self._tell if self.tell is not None else None, self.enhancer.dispatcher
        try:
            return await ask_model(dispatcher, self.question, model, tell)
        except Unfit as error:
            if not error.is_kept or self.has_told:
                raise
        # It may be better now, and takes the place of the kept one.
        caller = attrs.evolve(self.question.caller, no_cache=True)
        return await ask_model(dispatcher, attrs.evolve(self.question, caller=caller), model, tell)

    async def _tell(self, text: str) -> None:
        assert self.tell is not None
        self.has_told = True
        try:
            await self.tell(text)
        except Exception:
            self.is_untold = True
            raise

    async def _ask_plugins(self) -> str | None:
        question = self.question
        try:
            call = getattr(self.enhancer.plugins.manager.hook, _HOOK)
            made = call(prompt=question.prompt, rule=question.rule, client=question.caller.client)
            text = await made if inspect.isawaitable(made) else made
        except AgentHubError:
            raise
        except Exception as error:
            _log.error("agenthub.hook_failed", hook=_HOOK, error=repr(error))
            raise DispatchError("a plugin that enhances prompts failed") from error
        if text is not None and not (isinstance(text, str) and text.strip()):
            _log.error("agenthub.hook_failed", hook=_HOOK, error=f"no text but a {type(text).__name__}")
            raise DispatchError("a plugin that enhances prompts gave no text")
        return text

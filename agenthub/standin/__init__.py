"""A stand-in Ollama: a real HTTP server that speaks both of Ollama's APIs without any model.

Its text is a function of the request, its pace is set, and what goes wrong is scripted. It imports nothing of
AgentHub's own, so that a test of AgentHub against it is not a test of AgentHub against itself::

    standin = Standin(pace_s=0.01)
    standin.script(Fault.answer(503), Fault.reset(after=2))
    async with running(standin) as url:
        ...
        assert standin.requests[-1].path == "/api/chat"
        await standin.abandoned.reach(1)
"""

from .faults import Ending, Fault
from .server import make_app, running
from .state import Model, Received, Standin, Tally

__all__ = ["Ending", "Fault", "Model", "Received", "Standin", "Tally", "make_app", "running"]

"""Measures AgentHub against bare aiohttp programs that do the least that could be called the same work.

``python -m bench`` runs everything on loopback, one process each: the upstream, the subjects and the client. The two
subjects of a case take turns in short rounds, and what counts is the ratio within a round: the figures themselves
depend on the machine and on what else it does.
"""

"""Strikes runs at random instants and checks every promise afterwards; see `scripts/chaos`.

    runner -> umpire (one per processor and identity) -> agent (forked, or the real command)

The plan is a function of the seed. An umpire makes rounds: it starts an agent, waits for a phase,
strikes, and judges by what /proc, the journal and the tools' own files say. It imports the product
only to be able to fork agents and to ask whether a journal loads; its verdict on processes comes
from `observer`, which uses none of the project's code.
"""

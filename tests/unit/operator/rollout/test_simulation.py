"""Many worlds, each decided by its bytes: what a rollout promises holds in all of them."""

import random
from collections import Counter
from collections.abc import Iterator
from functools import partial

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from onceserve_operator.rollout import state
from onceserve_operator.rollout.phases import TRANSITIONS, Phase
from unit.operator.rollout.mutants import MUTANTS, Mutant
from unit.operator.rollout.promises import broken, remembered, transition, unfinished
from unit.operator.rollout.simulation import EVENTS, World

WORLDS = 600
THINGS = 180
"""Things that happen in a world."""
LENGTH = 300
"""Bytes that decide them."""
PASSES = 150
"""Passes within which a calm world comes to rest."""
MOST = 300
"""Worlds within which each mutant breaks its promise."""

quickly = partial(settings, derandomize=True, database=None, deadline=None, suppress_health_check=[*HealthCheck])


def lived(choices: bytes, seen: Counter[object]) -> Iterator[str]:
    """Have a world go on until its bytes are used up and then be calm; return the promises that are broken."""
    world = World(choices)
    for _ in range(THINGS):
        for made in world.happen():
            seen[transition(state.read(made.observed.status), remembered(made))] += 1
            yield from broken(made)
    seen.update(world.happened)
    seen["things"] += THINGS
    yield from unfinished(world, PASSES)


@pytest.mark.timeout(300)
def test_no_promise_is_broken() -> None:
    seen: Counter[object] = Counter()

    @quickly(max_examples=WORLDS)
    @given(st.binary(min_size=LENGTH, max_size=LENGTH))
    def holds(choices: bytes) -> None:
        assert not list(lived(choices, seen))

    holds()
    assert seen["things"] >= 100_000
    assert not [way for way in TRANSITIONS if not seen[way]]
    assert not [(event, phase) for event in {*EVENTS} for phase in Phase if not seen[event, phase]]


@pytest.mark.timeout(120)
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_each_guard_is_needed(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mutant.where, mutant.what, mutant.instead)
    worlds = (random.Random(seed).randbytes(LENGTH) for seed in range(MOST))
    assert any(words.startswith(mutant.breaks) for choices in worlds for words in lived(choices, Counter()))

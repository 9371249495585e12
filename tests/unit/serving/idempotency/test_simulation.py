"""Many worlds, each decided by its seed; `ONCESERVE_SIMULATION_SEED=N` lets that one alone happen again."""

import logging
import os
from collections import Counter
from collections.abc import Iterator

import pytest

from unit.serving.idempotency.history import Reply, Row, judge
from unit.serving.idempotency.mutants import MUTANTS, Mutant, ThrowsAway
from unit.serving.idempotency.simulation import SERVERS, Outages, World

SEED = os.environ.get("ONCESERVE_SIMULATION_SEED")
WORLDS = 100
SEEDS = [range(int(SEED), int(SEED) + 1)] if SEED else [range(n, n + WORLDS) for n in range(0, 20 * WORLDS, WORLDS)]
MOST = 1000
"""Worlds within which each mutant breaks its promise."""


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Stores fail here all the time."""
    logging.disable(logging.ERROR)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("seeds", SEEDS, ids=str)
def test_no_promise_is_broken(seeds: range) -> None:
    for seed in seeds:
        violations = World(seed).run().violations
        assert not violations, f"ONCESERVE_SIMULATION_SEED={seed}: {violations}"


@pytest.mark.timeout(60)
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_each_guard_is_needed(mutant: Mutant) -> None:
    assert any(
        violation.startswith(mutant.breaks)
        for seed in range(MOST)
        for violation in World(seed, **mutant.without).run().violations
    )


def test_no_run_is_thrown_away_where_only_the_store_is_away() -> None:
    late = 0
    for seed in range(WORLDS):
        world = Outages(seed).run()
        assert not world.violations, seed
        assert world.runs == len(world.shelf.rows), seed
        late += world.confirmed_late
    assert late > WORLDS / 10


def test_without_confirming_it_would_be() -> None:
    worlds = [Outages(seed, make=ThrowsAway).run() for seed in range(WORLDS)]
    assert any(world.runs > len(world.shelf.rows) for world in worlds)


def test_a_seed_decides_all() -> None:
    for seed in range(20):
        one, other = World(seed).run(), World(seed).run()
        assert (one.replies, one.shelf.rows, one.loop.time()) == (other.replies, other.shelf.rows, other.loop.time())


def test_the_worlds_are_not_idle() -> None:
    seen: Counter[str] = Counter()
    for seed in range(WORLDS):
        world = World(seed).run()
        bodies = [reply.body or b"" for reply in world.replies]
        seen["refused"] += bodies.count(b"")
        seen["poisoned"] += any(b"no answer was kept" in body for body in bodies)
        seen["failed"] += any(b": failed" in body for body in bodies)
        seen["run again"] += world.runs > 1
        seen["retentions ended"] += world.shelf.epoch
        seen["servers replaced"] += world.lives - SERVERS
    assert min(seen.values()) >= 5, seen
    assert len(seen) == 6


ROW, OTHER = Row(0, b"a run 1"), Row(0, b"a run 2")
ANSWER, REFUSAL = Reply(b"a", b"a run 1", 0, 0), Reply(b"b", None, 0, 0)


@pytest.mark.parametrize(
    ("replies", "rows", "told"),
    [
        ([ANSWER, ANSWER, REFUSAL], [ROW], []),
        ([ANSWER, ANSWER._replace(body=b"a run 2")], [ROW, OTHER._replace(epoch=1)], []),
        ([], [ROW], []),
        ([ANSWER], [], ["G1: an answer is not what the store has"]),
        ([ANSWER, ANSWER._replace(body=b"a run 2")], [ROW], ["G1: an answer is not what the store has"]),
        ([ANSWER], [ROW, OTHER], ["G2: there are 2 completions"]),
        ([ANSWER], [ROW, ROW], ["G2: there are 2 completions"]),
        ([ANSWER, ANSWER._replace(body=b"a run 2")], [ROW, OTHER], ["G2", "G1: there are 2 answers"]),
        ([ANSWER._replace(request=b"b")], [ROW], ["G3: a request was given another's answer"]),
        ([ANSWER, REFUSAL._replace(request=b"a")], [ROW], ["G3: a request was answered and refused"]),
        ([ANSWER, REFUSAL._replace(request=b"a", returned=1)], [ROW], []),
    ],
)
def test_a_bad_history_is_told_from_a_good_one(replies: list[Reply], rows: list[Row], told: list[str]) -> None:
    seen = list(judge(replies, rows))
    assert len(seen) == len(told)
    assert all(violation.startswith(begin) for violation, begin in zip(seen, told, strict=True))

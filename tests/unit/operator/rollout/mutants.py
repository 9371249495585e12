"""What the machine would be without one of its guards each."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

from onceserve_operator.api.rollout import RolloutStatus
from onceserve_operator.domain import NOBODY, Problem, Traffic
from onceserve_operator.rollout import aims, decision, judgement, machine, orders, recall, split, state, steps
from onceserve_operator.rollout.phases import COMING_UP, Phase
from onceserve_operator.rollout.situation import PodSet, Situation
from onceserve_operator.rollout.state import State

FAR = 1000


class Mutant(NamedTuple):
    """A name of a module or class that means something else."""

    name: str
    where: Any
    what: str
    instead: Any
    breaks: str
    """Number of the promise that is broken; "!" for an error."""


def always(value: object) -> Callable[..., object]:
    return lambda *_, **__: value


def safe_but(aims_excepted: Callable[[Traffic], bool]) -> Callable[..., bool]:
    real = aims._is_safe

    def is_safe(aim: Traffic, before: State, situation: Situation) -> bool:
        return aims_excepted(aim) or real(aim, before, situation)

    return is_safe


def written_without(**fields: Any) -> Callable[..., RolloutStatus]:
    real = state.write
    return lambda *arguments: real(*arguments).model_copy(update=fields)


def heeded_again(before: State, situation: Situation) -> Any:
    return _HEED(replace(before, command=None), situation)


_HEED = orders.heed


def verified_when_ready(before: State, situation: Situation) -> State:
    pods = situation.set_of(before.revision)
    return _VERIFIED(before, _with_pods(situation, before, replace(pods, verified=pods.ready)))


_VERIFIED = machine._verified


def _with_pods(situation: Situation, before: State, pods: PodSet) -> Situation:
    return replace(situation, sets={**situation.sets, before.revision or "": pods})


def finalized_early(before: State, situation: Situation) -> State:
    return machine._rested(replace(before, stable=before.revision), situation)


def emptied_as_wanted(before: State, situation: Situation) -> State:
    return machine._rested(replace(before, stable=situation.wanted), situation)


def sizes_without_delay(before: State, situation: Situation) -> tuple[int, int]:
    return _SIZES(before, replace(situation, scale_down_delay=0))


_SIZES = aims.sizes


def least_of_all(situation: Situation, sets: dict[str, PodSet], revision: str, traffic: Traffic) -> int:
    """Count what has been started as if it were ready."""
    others = (pods.desired for name, pods in sets.items() if name != revision and traffic.reaches(name))
    return max(0, situation.floor - sum(others)) if traffic.reaches(revision) else 0


def weight_of_a_coming_revision(before: State, situation: Situation) -> int:
    return steps.weight_at(situation.steps, before.step) if before.phase in COMING_UP else _WEIGHT(before, situation)


_WEIGHT = aims.weight


def gone_back_to_nobody(aim: Traffic) -> bool:
    return aim == NOBODY


def way(phase: Phase, instead: Callable[..., State]) -> dict[Phase, Callable[..., State]]:
    return {**machine._WAYS, phase: instead}


def failure_unmeasured(before: State, situation: Situation) -> Problem | None:
    return judgement.failure(before, replace(situation, measured=None))


MUTANTS = (
    Mutant("the floor is ignored", Situation, "floor", property(always(0)), "1"),
    Mutant("the ceiling is ignored", Situation, "ceiling", property(always(FAR)), "2"),
    Mutant("pods beyond the Deployment's number are counted on", PodSet, "lasting", PodSet.__dict__["verified"], "1"),
    Mutant("pods that have only started are counted on", split, "_least", least_of_all, "1"),
    Mutant("traffic goes where nothing is ready", aims, "_is_safe", safe_but(lambda aim: bool(aim.revision)), "1"),
    Mutant("traffic goes to nobody at once", aims, "_is_safe", safe_but(gone_back_to_nobody), "1"),
    Mutant("pods are not verified", decision, "_is_verified", lambda _, pod: pod.ready, "3"),
    Mutant("ready is enough for traffic", machine, "_WAYS", way(Phase.VERIFYING, verified_when_ready), "3"),
    Mutant("verdicts are not looked at", decision, "_failure", always(None), "3"),
    Mutant("measurements are not looked at", machine, "failure", failure_unmeasured, "3"),
    Mutant("weight is given before verification", aims, "weight", weight_of_a_coming_revision, "3"),
    Mutant("what nobody called is what stays", machine, "exposed", always(True), "3"),
    Mutant("what is not named by a Service is taken as found right", recall, "_serving", always("wrong"), "3"),
    Mutant("what was scaled away counts as found right", machine, "_emptied", emptied_as_wanted, "3"),
    Mutant("the end is told before the old revision is back", machine, "_is_back", always(True), "3"),
    Mutant("nothing is ever late", judgement, "elapsed", always(0.0), "6"),
    Mutant("a pause has no end", machine, "elapsed", always(0.0), "6"),
    Mutant("what is missing does not come back", Situation, "missing", always(0), "7"),
    Mutant("who has lost all pods keeps all traffic", judgement, "_loss", always(None), "7"),
    Mutant("a pause has time for lost pods", judgement, "short", always(False), "7"),
    Mutant("a failed revision is tried again", State, "refusing", lambda before, *_: before.refused, "6"),
    Mutant("refusals are not kept", state, "write", written_without(refused=[]), "6"),
    Mutant("a pause by command is not kept", state, "write", written_without(held=None), "3"),
    Mutant("the moment of progress is not kept", state, "write", written_without(progressed_at=None), "6"),
    Mutant("the step is not kept", state, "write", written_without(step=None), "6"),
    Mutant("a command is not kept", state, "write", written_without(command=None), "6"),
    Mutant("a command is heeded twice", orders, "heed", heeded_again, "5"),
    Mutant("the end is told too soon", machine, "_WAYS", way(Phase.FINALIZING, finalized_early), "5"),
    Mutant("old pods leave at once", aims, "sizes", sizes_without_delay, "5"),
    Mutant("refused is called stable", machine, "_rested", lambda before, _: before.resting(Phase.STABLE), "6"),
)

"""What the machine remembers from pass to pass: in the status of the resource and nowhere else."""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Self

from pydantic import ValidationError

from onceserve_operator import quantities
from onceserve_operator.api.rollout import Refusal, RolloutStatus
from onceserve_operator.domain import Manifest, Problem
from onceserve_operator.rollout.phases import Phase
from onceserve_operator.rollout.steps import Step, told


@dataclass(frozen=True, slots=True)
class State:
    """Where the rollout stands."""

    phase: Phase = Phase.STABLE
    stable: str | None = None
    """Revision that has been found right and serves; the one to return to."""
    wanted: str | None = None
    """Revision that the spec asked for when it was last looked at."""
    revision: str | None = None
    """Revision that is on its way."""
    step: int = 0
    """Index of the step that it is at."""
    started: datetime | None = None
    since: datetime | None = None
    """When the phase or step began."""
    progressed: datetime | None = None
    """When it last came nearer to its end; where nothing more is awaited of it, since when it lacks pods."""
    ready: int = 0
    """Progress so far, in pods."""
    held: Phase | None = None
    """Phase that goes on when somebody promotes."""
    rollback_to: str | None = None
    refused: tuple[Refusal, ...] = ()
    command: str | None = None
    """The last one that was heeded."""
    taken: str | None = None
    """Steps up to this one, as they were when they were taken."""

    def refusal(self, revision: str | None) -> Refusal | None:
        """Return why a revision is not tried again."""
        return next((each for each in self.refused if each.revision == revision), None)

    def refusing(self, revision: str, problem: Problem) -> tuple[Refusal, ...]:
        """Return the refusals with one more."""
        others = tuple(each for each in self.refused if each.revision != revision)
        return (*others, Refusal(revision=revision, reason=problem.reason, message=problem.message))

    def beginning(self, revision: str, now: datetime) -> Self:
        """Return the state in which another revision sets out."""
        return replace(self, revision=revision, started=now).entering(Phase.PREPARING, now, step=0)

    def entering(self, phase: Phase, now: datetime, *, step: int | None = None, held: Phase | None = None) -> Self:
        """Return the state at the begin of a phase, or of a step of it."""
        step = self.step if step is None else step
        return replace(self, phase=phase, step=step, since=now, progressed=now, ready=0, held=held)

    def on(self, steps: tuple[Step, ...]) -> Self:
        """Return the state with the steps that it has taken from one revision to the other."""
        return replace(self, taken=told(steps[: self.step + 1]) if self.stable and self.revision else None)

    def resting(self, phase: Phase) -> Self:
        """Return the state in which nothing is on its way."""
        return replace(
            self, phase=phase, revision=None, step=0, started=None, since=None, progressed=None, ready=0, held=None
        )


def read(status: Manifest) -> State:
    """Return what was remembered; nothing where another release left what this one cannot read."""
    stable, wanted = status.get("stableRevision"), status.get("targetRevision")
    try:
        written = RolloutStatus.model_validate(status["rollout"])
        return State(
            phase=Phase(written.phase),
            stable=stable,
            wanted=wanted,
            revision=written.revision,
            step=(written.step or 1) - 1,
            started=_moment(written.started_at),
            since=_moment(written.step_started_at),
            progressed=_moment(written.progressed_at),
            ready=written.ready or 0,
            held=Phase(written.held) if written.held else None,
            rollback_to=written.rollback_to,
            refused=tuple(written.refused),
            command=written.command,
            taken=written.taken,
        )
    except (KeyError, TypeError, ValueError, ValidationError):
        return State(stable=stable, wanted=wanted)


def write(state: State, weight: int | None, message: str) -> RolloutStatus:
    """Return the state as the status has it."""
    moving = state.revision is not None
    return RolloutStatus(
        phase=state.phase,
        revision=state.revision,
        step=state.step + 1 if moving else None,
        weight=weight,
        started_at=_timestamp(state.started),
        step_started_at=_timestamp(state.since),
        progressed_at=_timestamp(state.progressed),
        ready=state.ready or None,
        held=state.held,
        rollback_to=state.rollback_to,
        refused=list(state.refused),
        command=state.command,
        taken=state.taken,
        message=message,
    )


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _timestamp(moment: datetime | None) -> str | None:
    return quantities.timestamp(moment) if moment else None

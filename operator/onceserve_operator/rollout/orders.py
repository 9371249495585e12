"""What a command does in each phase. Each value of the annotation is heeded once, also where it changes nothing."""

from dataclasses import dataclass, replace

from onceserve_operator.api.rollout import Refusal
from onceserve_operator.rollout import commands
from onceserve_operator.rollout.commands import Command, Verb
from onceserve_operator.rollout.phases import ACTIVE, Phase
from onceserve_operator.rollout.situation import Situation
from onceserve_operator.rollout.state import State

ABORTED = "AbortedByCommand"
ROLLED_BACK = "RolledBackByCommand"


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a command."""

    message: str
    heeded: bool = True


def heed(state: State, situation: Situation) -> tuple[State, Answer | None]:
    """Return the state as a new command leaves it, and what became of the command."""
    value = situation.command
    if not value or value == state.command:
        return state, None
    noted = replace(state, command=value)
    command = commands.parse(value)
    if command is None:
        return noted, Answer(f"{value!r} is no command: {', '.join(Verb)} are", heeded=False)
    after = _ORDERS[command.verb](noted, situation, command)
    if isinstance(after, str):
        return noted, Answer(f"{command.verb}: {after}", heeded=False)
    return after, Answer(f"{command.verb}: done as asked")


def _promote(state: State, situation: Situation, _: Command) -> State | str:
    if state.phase is not Phase.PAUSED:
        return "nothing is paused"
    if state.held:
        return _at(state, situation, state.held, state.step)
    return _at(state, situation, Phase.SHIFTING, min(state.step + 1, len(situation.steps) - 1))


def _promote_full(state: State, situation: Situation, _: Command) -> State | str:
    last = len(situation.steps) - 1
    if state.phase is Phase.PAUSED and state.held in {Phase.PREPARING, Phase.VERIFYING}:
        return _at(state, situation, state.held, last)
    if state.phase in {Phase.SHIFTING, Phase.PAUSED}:
        return _at(state, situation, Phase.SHIFTING, last)
    return "no traffic is shifting"


def _pause(state: State, situation: Situation, _: Command) -> State | str:
    if state.phase in {Phase.PREPARING, Phase.VERIFYING, Phase.SHIFTING}:
        return replace(_at(state, situation, Phase.PAUSED, state.step), held=state.phase)
    if state.phase is Phase.PAUSED and not state.held:
        # Its time would be up by itself otherwise.
        return replace(state, held=Phase.SHIFTING)
    return "nothing is on its way that could wait"


def _abort(state: State, situation: Situation, _: Command) -> State | str:
    if state.phase not in ACTIVE or state.revision is None:
        return "nothing is on its way"
    if state.stable is None:
        return "there is no former revision to go back to"
    refusal = Refusal(revision=state.revision, reason=ABORTED, message=f"{state.revision} was aborted by command")
    return replace(_at(state, situation, Phase.ABORTING, state.step), refused=_with(state, refusal))


def _retry(state: State, _: Situation, __: Command) -> State | str:
    if not state.refused:
        return "no revision is refused"
    return replace(state, refused=(), rollback_to=None)


def _rollback(state: State, situation: Situation, command: Command) -> State | str:
    named = next((word for word in command.words if word in situation.known), None)
    if state.phase in ACTIVE and state.stable is not None and named in {None, state.stable}:
        return _abort(state, situation, command)
    serving = state.stable
    former = (each for each in situation.known if each not in {serving, situation.wanted} and not state.refusal(each))
    back = named or next(former, None)
    if serving is None or back is None or back == serving:
        return "there is no former revision to go back to"
    if back == situation.wanted:
        return replace(state, refused=(), rollback_to=None)
    words = f"{situation.wanted} was rolled back to {back} by command"
    refusal = Refusal(revision=situation.wanted, reason=ROLLED_BACK, message=words)
    kept = tuple(each for each in _with(state, refusal) if each.revision != back)
    return replace(state, refused=kept, rollback_to=back)


def _with(state: State, refusal: Refusal) -> tuple[Refusal, ...]:
    return (*(each for each in state.refused if each.revision != refusal.revision), refusal)


def _at(state: State, situation: Situation, phase: Phase, step: int) -> State:
    now = situation.now
    return replace(state, phase=phase, step=step, since=now, progressed=now, ready=0, held=None)


_ORDERS = {
    Verb.PROMOTE: _promote,
    Verb.PROMOTE_FULL: _promote_full,
    Verb.PAUSE: _pause,
    Verb.ABORT: _abort,
    Verb.RETRY: _retry,
    Verb.ROLLBACK: _rollback,
}

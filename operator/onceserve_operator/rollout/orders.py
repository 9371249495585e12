"""What a command does in each phase. Each value of the annotation is heeded once, also where it changes nothing."""

import re
from dataclasses import dataclass, replace

from onceserve_operator.domain import Problem
from onceserve_operator.rollout import commands
from onceserve_operator.rollout.commands import Command, Verb
from onceserve_operator.rollout.phases import ACTIVE, COMING_UP, TIMED, Phase
from onceserve_operator.rollout.situation import Situation
from onceserve_operator.rollout.state import State
from onceserve_operator.rollout.steps import Wait

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
    if not value or commands.kept(value) == state.command:
        return state, None
    noted = replace(state, command=commands.kept(value))
    if len(value) > commands.LONGEST:
        words = f"a command has at most {commands.LONGEST} characters, this one has {len(value)}"
        return noted, Answer(words, heeded=False)
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
    if isinstance(situation.steps[state.step], Wait) and state.held not in COMING_UP:
        return state.entering(Phase.SHIFTING, situation.now, step=state.step + 1)
    return state.entering(state.held or Phase.SHIFTING, situation.now)


def _promote_full(state: State, situation: Situation, _: Command) -> State | str:
    last = len(situation.steps) - 1
    if state.held in COMING_UP:
        return state.entering(state.held, situation.now, step=last)
    if state.phase in {Phase.SHIFTING, Phase.PAUSED}:
        return state.entering(Phase.SHIFTING, situation.now, step=last)
    return "no traffic is shifting"


def _pause(state: State, situation: Situation, _: Command) -> State | str:
    if state.phase in TIMED:
        return state.entering(Phase.PAUSED, situation.now, held=state.phase)
    if state.phase is Phase.PAUSED and not state.held:
        # Its time would be up by itself otherwise.
        return replace(state, held=Phase.SHIFTING)
    return "nothing is on its way that could wait"


def _abort(state: State, situation: Situation, _: Command) -> State | str:
    if state.phase not in ACTIVE or state.revision is None:
        return "nothing is on its way"
    if state.stable is None:
        return "there is no former revision to go back to"
    problem = Problem(ABORTED, f"{state.revision} was aborted by command")
    return replace(state, refused=state.refusing(state.revision, problem)).entering(Phase.ABORTING, situation.now)


def _retry(state: State, _: Situation, __: Command) -> State | str:
    if not state.refused:
        return "no revision is refused"
    return replace(state, refused=(), rollback_to=None)


def _rollback(state: State, situation: Situation, command: Command) -> State | str:
    if unknown := next((word for word in command.words if _names(word, situation)), None):
        return f"{unknown!r} is none of the revisions: {', '.join(situation.known)} are"
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
    refused = state.refusing(situation.wanted, Problem(ROLLED_BACK, words))
    return replace(state, refused=tuple(each for each in refused if each.revision != back), rollback_to=back)


def _names(word: str, situation: Situation) -> bool:
    """Say whether a word is meant to name a revision, and names none that is known."""
    resource, dash, digest = situation.wanted.rpartition("-")
    alike = word.startswith(resource + dash) or re.fullmatch(rf".+-[0-9a-f]{{{len(digest)}}}", word)
    return bool(dash and alike) and word not in situation.known


_ORDERS = {
    Verb.PROMOTE: _promote,
    Verb.PROMOTE_FULL: _promote_full,
    Verb.PAUSE: _pause,
    Verb.ABORT: _abort,
    Verb.RETRY: _retry,
    Verb.ROLLBACK: _rollback,
}

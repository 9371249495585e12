"""What a rollout promises, judged from outside: by what an operator saw before a pass and what it meant to do then."""

from collections.abc import Iterator, Mapping
from datetime import timedelta

from onceserve_operator import quantities
from onceserve_operator.api.rollout import RollingUpdate, Strategy
from onceserve_operator.domain import NOBODY, Observed, Revision, Traffic
from onceserve_operator.rollout import decision, state
from onceserve_operator.rollout.commands import ANNOTATION
from onceserve_operator.rollout.phases import ACTIVE, COMING_UP, TRANSITIONS, Phase
from onceserve_operator.rollout.state import State
from onceserve_operator.rollout.steps import Wait, of_strategy, weight_at
from unit.operator.rollout.simulation import Pass, World
from unit.operator.rollout.wishes import QUALITIES, Quality

RESTING = {Phase.STABLE, Phase.ABORTED}


def broken(made: Pass) -> Iterator[str]:
    """Return the promises that a pass has broken."""
    before, after = state.read(made.observed.status), remembered(made)
    yield from _floor(made, after)
    yield from _made_up(made, after)
    yield from _ceiling(made, after)
    yield from _strangers(made)
    yield from _way_back(made, before, after)
    yield from _in_order(made, before, after)
    yield from _way(before, after)


def remembered(made: Pass) -> State:
    """Return the state that a pass leaves."""
    stable = made.step.stable.name if made.step.stable else None
    told = {"rollout": made.step.rollout, "stableRevision": stable, "targetRevision": made.step.target.name}
    return state.read(told)


# --- 1: what serves stays


def room(made: Pass) -> tuple[int, int]:
    """Return the pods that may be missing, and those that may be added."""
    rollout, replicas = made.spec.rollout, made.spec.replicas
    if rollout.strategy is Strategy.BLUE_GREEN:
        return 0, replicas
    given = rollout.rolling_update or RollingUpdate()
    missing = min(replicas, quantities.whole_share(replicas, given.max_unavailable))
    surge = quantities.share(replicas, given.max_surge)
    return missing, surge if surge or missing else 1


def floor(made: Pass) -> int:
    return made.spec.replicas - room(made)[0]


def sure(observed: Observed, traffic: Traffic | None, replicas: Mapping[str, int]) -> int:
    """Return the ready pods under traffic that stay ready, whichever surplus pods the Deployments delete."""
    reached = {name for name in observed.replicas if traffic and traffic.reaches(name)}
    return sum(min(observed.ready_pods(name), replicas.get(name, 0)) for name in reached)


def _floor(made: Pass, after: State) -> Iterator[str]:
    observed, step = made.observed, made.step
    least = min(floor(made), sure(observed, observed.traffic, observed.replicas))
    if step.traffic == NOBODY and all(map(after.refusal, _reached(observed))):
        return
    # Any write may be refused, and the pass may end after any.
    for traffic in (observed.traffic, step.traffic):
        for replicas in (observed.replicas, step.replicas):
            if traffic is not None and sure(observed, traffic, replicas) < least:
                yield f"1: {sure(observed, traffic, replicas)} ready pods under traffic instead of {least}"


def _made_up(made: Pass, after: State) -> Iterator[str]:
    """What the new revision has lost, the old one has got back; and who does not get it back himself is given up."""
    observed = made.observed
    stable_is_dead = made.dead in {after.stable, ""}
    if stable_is_dead or not after.stable:
        return
    ready = sure(observed, observed.traffic, observed.replicas)
    if ready < floor(made):
        yield f"7: {ready} ready pods under traffic instead of {floor(made)} while {made.dead} is dead"
    # A share may be too small for a pod.
    pods = made.step.replicas.get(made.dead)
    weighs = pods and (after.phase is Phase.FINALIZING or weight_at(of_strategy(made.spec.rollout), after.step))
    moves = after.revision == made.dead and after.phase in {Phase.SHIFTING, Phase.PAUSED, Phase.FINALIZING}
    if made.overdue and moves and weighs and after.held not in COMING_UP:
        yield f"7: {made.dead} is dead for long, and {after.phase}"


# --- 2: no more pods than may be


def _ceiling(made: Pass, after: State) -> Iterator[str]:
    observed, step = made.observed, made.step
    spec = made.spec
    whole = spec.rollout.strategy is Strategy.BLUE_GREEN or spec.gateway or len(_schemes(made, after)) > 1
    most = spec.replicas + max(room(made)[1], spec.replicas if whole else 0)
    exist = {name: sum(pod.revision == name for pod in observed.pods) for name in {*observed.replicas, *step.replicas}}
    before, total = (
        sum(max(number, replicas.get(name, 0)) for name, number in exist.items())
        for replicas in (observed.replicas, step.replicas)
    )
    if total > max(most, before):
        yield f"2: {total} pods instead of {most}"


def _schemes(made: Pass, after: State) -> set[str]:
    known = {each.name: each for each in (made.step.target, *made.observed.revisions)}
    pair: tuple[Revision | None, ...] = tuple(known.get(each or "") for each in (after.stable, after.revision))
    return {each.scheme for each in pair if each}


# --- 3: only what was found right is reached


def _strangers(made: Pass) -> Iterator[str]:
    observed, step = made.observed, made.step
    present = {name for name, number in step.replicas.items() if number} | {pod.revision for pod in observed.pods}
    reached = {name for name in present if step.traffic.reaches(name)}
    if step.traffic.revision:
        reached.add(step.traffic.revision)
    if step.routed_weight and step.moving:
        reached.add(step.moving.name)
    for name in sorted(reached - made.trusted):
        yield f"3: {name} gets traffic and was never found right"


def _way_back(made: Pass, before: State, after: State) -> Iterator[str]:
    """What fails or is not wanted loses its traffic once the old one can carry it, and not before is it reported."""
    observed, step = made.observed, made.step
    if after.phase is Phase.ABORTING or (after.phase is Phase.ABORTED and after.stable):
        if step.routed_weight:
            yield "3: a Gateway sends requests to a revision that is given up"
        back = sure(observed, Traffic(after.stable), observed.replicas)
        able = back >= min(floor(made), sum(map(observed.ready_pods, _reached(observed))))
        if able and back and step.traffic != Traffic(after.stable):
            yield "3: the old revision can carry the traffic and does not get it"
    ended = before.phase is Phase.ABORTING and after.phase in RESTING and after.stable == before.stable
    if ended and made.spec.replicas:
        ready = observed.ready_pods(after.stable or "")
        if ready < max(1, floor(made)) or observed.traffic != Traffic(after.stable):
            yield f"3: the end is reported with {ready} pods of the old revision ready"
    heeded = before.command != after.command
    if not heeded and before.stable and before.phase in ACTIVE and after.phase in ACTIVE - {Phase.PREPARING}:
        served = before.revision in _reached(observed)
        problem = served and observed.seen.measured and observed.seen.measured.problem
        if before.revision == after.revision and (_found_wrong(observed, before.revision) or problem):
            yield "3: what is wrong or does badly goes on"


def _found_wrong(observed: Observed, revision: str | None) -> bool:
    verdicts = [observed.seen.verdicts.get(pod.uid) for pod in observed.pods if pod.revision == revision]
    known = [verdict for verdict in verdicts if verdict]
    return any(verdict.problem for verdict in known) or len({verdict.sha256 for verdict in known}) > 1


def _reached(observed: Observed) -> set[str]:
    traffic = observed.traffic or NOBODY
    return {pod.revision for pod in observed.pods if traffic.reaches(pod.revision)}


# --- 5: one thing after the other


def _in_order(made: Pass, before: State, after: State) -> Iterator[str]:
    observed, step = made.observed, made.step
    if before.command == made.observed.annotations.get(ANNOTATION) and _ANSWERS & {e.reason for e in step.events}:
        yield "5: a command is heeded again"
    if after.phase is Phase.FINALIZING and after.stable:
        least = min(observed.replicas.get(after.stable, 0), made.spec.replicas)
        if _stays(made, after) and step.replicas.get(after.stable, 0) < least:
            yield "5: old pods leave before their time"
    known = {each.name for each in observed.revisions}
    if before.phase is Phase.FINALIZING and after.phase in RESTING and made.spec.replicas and before.stable in known:
        desired = {name for name, number in observed.replicas.items() if number}
        others = (desired | {pod.revision for pod in observed.pods}) - {after.stable}
        if after.stable != before.stable and others:
            yield "5: the end is reported before the old pods are gone"


def _stays(made: Pass, after: State) -> bool:
    given = made.spec.rollout
    if given.strategy is not Strategy.BLUE_GREEN or after.since is None:
        return False
    delay = given.blue_green.scale_down_delay if given.blue_green else "30s"
    return made.now - after.since < timedelta(seconds=quantities.seconds(delay))


_ANSWERS = {decision.COMMANDED, decision.COMMAND_REFUSED}


# --- the table


def transition(before: State, after: State) -> tuple[Phase, Phase] | None:
    """Return the row of the table by which a pass went, if it went any way."""
    moved = (before.phase, before.revision) != (after.phase, after.revision)
    stepped = after.phase is Phase.SHIFTING and after.step > before.step and before.revision == after.revision
    return (before.phase, after.phase) if moved or stepped else None


def _way(before: State, after: State) -> Iterator[str]:
    way = transition(before, after)
    if way and way not in TRANSITIONS:
        yield f"5: {way[0]} → {way[1]} is no way"
    if (after.revision is not None) != (after.phase in {*ACTIVE, Phase.ABORTING}):
        yield f"5: {after.phase} with {after.revision}"


# --- 6: it ends


def unfinished(world: World, passes: int) -> Iterator[str]:
    """Have the world be calm; return what is not as it should be after so many passes."""
    calm = world.calm()
    made = next(calm)
    for _ in range(passes):
        last, made = made, next(calm)
        yield from broken(made)
        if _same(last, made) and made.step.due is None:
            break
    else:
        yield f"6: it has no end: {made.step.message}"
        return
    world.restarted()
    world.now = world.now.replace(year=world.now.year + 1)
    # The first passes learn anew what pods tell.
    learnt = [next(calm), next(calm)]
    yield from (words for each in learnt for words in broken(each))
    for again in (next(calm), next(calm)):
        if not _same(learnt[-1], again) or remembered(again).phase != remembered(made).phase:
            yield f"6: it does not rest: {made.step.message} / {again.step.message}"
    yield from _end(world, made)


def _same(one: Pass, other: Pass) -> bool:
    def facts(made: Pass) -> tuple[object, ...]:
        step = made.step
        return step.rollout, step.traffic, step.replicas, step.routed_weight, step.stable

    return facts(one) == facts(other)


def _end(world: World, made: Pass) -> Iterator[str]:
    after, quality = remembered(made), QUALITIES[world.wanted]
    # Without anything to go back to, it may take all the time that it needs.
    needs_time = after.stable is None and after.phase in {Phase.PREPARING, Phase.VERIFYING}
    coming = QUALITIES.get(after.revision or "")
    awaits_person = after.phase is Phase.PAUSED and (after.held or of_strategy(made.spec.rollout)[after.step] == Wait())
    if awaits_person or (needs_time and coming in {Quality.UNREADY, Quality.SILENT}):
        return
    if after.phase not in RESTING:
        yield f"6: it ends in {after.phase}"
        return
    heir = after.rollback_to if after.refusal(world.wanted) else world.wanted
    if heir and quality is Quality.GOOD and not after.refusal(heir) and world.replicas and after.stable != heir:
        yield f"6: {after.stable} serves and not {heir}"
    if after.phase is Phase.STABLE and after.refusal(world.wanted) and world.replicas:
        yield "6: it is called stable though what is wanted is refused"
    serving = after.stable or (world.wanted if world.replicas else None)
    wanted = {serving: world.replicas} if serving and world.replicas else {}
    if {name: number for name, number in world.deployments.items() if number} != wanted:
        yield f"6: {world.deployments} instead of {wanted}"
    if world.replicas and world.service != Traffic(after.stable):
        yield f"6: {world.service} gets traffic and not {after.stable}"

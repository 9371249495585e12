"""A world of revisions, pods and a careless operator, in which bytes decide what happens next."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from onceserve_operator.api.v1alpha1 import ModelDeploymentSpec
from onceserve_operator.domain import (
    Key,
    Measured,
    Observed,
    Pod,
    Problem,
    Route,
    Seen,
    Step,
    Traffic,
    Verdict,
)
from onceserve_operator.rollout import decision
from onceserve_operator.rollout.commands import ANNOTATION, Verb
from unit.operator.rollout.cluster import Cluster, Live
from unit.operator.rollout.wishes import QUALITIES, REPLICAS, ROLLOUTS, WISHES, Quality, revision, specification

KEY: Final = Key("default", "risk")
START: Final = datetime(2026, 1, 1, tzinfo=UTC)
DIGEST, OTHER_DIGEST = "0" * 64, "1" * 64
MAKING_UP: Final = 2 * max(REPLICAS) + 2
"""Passes within which the old revision makes up for what the new one has lost: one makes room, one takes it."""
SPANS: Final = (1.0, 0.001, 10.0, 31.0, 61.0, 601.0, 36_000.0, -5.0, -7200.0)


@dataclass(frozen=True, slots=True)
class Pass:
    """What an operator saw and what it meant to do."""

    observed: Observed
    spec: ModelDeploymentSpec
    step: Step
    now: datetime
    trusted: frozenset[str]
    """Revisions of which a pod has been found right."""
    dead: str = ""
    """Revision of which no pod is ready any more, for so long that it should have been made up for."""
    overdue: bool = False
    """For so long that it should have been given up, too."""


class World(Cluster):
    """One ModelDeployment; `happen` does what the next bytes say, and returns the passes that were made."""

    def __init__(self, choices: bytes) -> None:
        bytewise = iter(choices)
        # The first choice where there are none left.
        super().__init__(lambda number: next(bytewise, 0) % number)
        self.now = START
        self.rollout = self.choose(len(ROLLOUTS))
        self.replicas = REPLICAS[self.choose(len(REPLICAS))]
        self.routed = bool(self.choose(4) // 3)
        self.wanted = "a"
        self.stored: list[str] = []
        self.service: Traffic | None = None
        self.weight = 0
        self.previewed: str | None = None
        self.status: dict[str, Any] = {}
        self.command: str | None = None
        self.verdicts: dict[str, Verdict] = {}
        self.unanswered: dict[str, str] = {}
        self.measured: Measured | None = None
        self.trusted: set[str] = set()
        self.last: Step | None = None
        self.happened: Counter[tuple[str, str]] = Counter()

    def happen(self) -> Iterator[Pass]:
        """Have one thing happen."""
        name = EVENTS[self.choose(len(EVENTS))]
        self.happened[name, self.phase] += 1
        if name == "stale":
            seen, spec = self.observed(), self.spec
            yield from self.happen()
            yield self.passed(seen, spec)
        elif name == "passed":
            yield self.passed()
        elif name == "crashed":
            yield self.passed(writes=self.choose(3 + len(self.deployments)))
        elif name == "progressed":
            for _ in range(1 + self.choose(4)):
                yield self._progressed()
        elif name == "crashing":
            yield from self._crashing()
        else:
            getattr(self, name)()

    @property
    def phase(self) -> str:
        return str(self.status.get("rollout", {}).get("phase", "-"))

    @property
    def spec(self) -> ModelDeploymentSpec:
        return specification(self.replicas, self.rollout, self.routed)

    # --- the operator

    def observed(self) -> Observed:
        """Return what an operator sees now."""
        pods = tuple(Pod(str(pod.uid), pod.revision, pod.ready, leaving=False, uid=str(pod.uid)) for pod in self.pods)
        return Observed(
            key=KEY,
            uid="uid",
            generation=1,
            spec={"revision": self.wanted},
            status=self.status,
            annotations={ANNOTATION: self.command} if self.command else {},
            revisions=tuple(map(revision, self.stored)),
            pods=pods,
            replicas=dict(self.deployments),
            traffic=self.service,
            seen=Seen(dict(self.verdicts), dict(self.unanswered), self.measured),
            route=Route(self.weight),
            previewed=self.previewed,
        )

    def passed(
        self, observed: Observed | None = None, spec: ModelDeploymentSpec | None = None, writes: int | None = None
    ) -> Pass:
        """Have an operator make a pass over what it sees, or saw, that may end after some of its writes."""
        observed, spec = observed or self.observed(), spec or self.spec
        target = revision(observed.spec["revision"])
        step = decision.decide(observed, spec, target, self.now)
        made = Pass(observed, spec, step, self.now, frozenset(self.trusted))
        for write in list(self._writes(observed, step))[:writes]:
            write()
        self._forget(step)
        return made

    def _writes(self, observed: Observed, step: Step) -> Iterator[Any]:
        def store() -> None:
            self.stored = [step.target.name, *(each for each in self.stored if each != step.target.name)]

        def tell() -> None:
            self.service = step.traffic
            self.weight = step.routed_weight or 0
            self.previewed = step.moving.name if step.moving and step.routed_weight is not None else None

        def report() -> None:
            told = {"stableRevision": step.stable.name if step.stable else None, "targetRevision": step.target.name}
            rollout = step.rollout.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_defaults=True)
            self.status = {name: value for name, value in told.items() if value} | {"rollout": rollout}

        yield store
        yield tell
        for name in {*observed.replicas, *step.replicas} & {step.target.name, *self.stored}:
            yield lambda name=name: self.deployments.__setitem__(name, step.replicas.get(name, 0))
        yield report

    def _forget(self, step: Step) -> None:
        moving = step.moving.name if step.moving else None
        ours = {str(pod.uid) for pod in self.pods if pod.revision == moving}
        self.verdicts = {uid: verdict for uid, verdict in self.verdicts.items() if uid in ours}
        self.unanswered = {uid: words for uid, words in self.unanswered.items() if uid in ours}
        if not step.measures:
            self.measured = None
        self.last = step

    def restarted(self) -> None:
        """Have the operator start again, and know only what the cluster does."""
        self.verdicts, self.unanswered, self.measured, self.last = {}, {}, None, None

    def inspected(self) -> None:
        """Have the operator learn what the pods of the revision on its way tell."""
        if self.last is None or self.last.moving is None:
            return
        moving = self.last.moving.name
        for pod in self.pods:
            if pod.revision == moving and pod.ready:
                self._inspect(pod)
        if self.last.measures:
            slow = QUALITIES[moving] is Quality.SLOW
            self.measured = Measured("slow", Problem("LatencyP99", "slow")) if slow else Measured("as fast as before")

    def _inspect(self, pod: Live) -> None:
        quality = QUALITIES[pod.revision]
        if quality is Quality.SILENT:
            self.unanswered[str(pod.uid)] = "it does not answer"
            return
        problem = Problem("WrongAnswer", "wrong", permanent=True) if quality is Quality.WRONG else None
        self.verdicts[str(pod.uid)] = Verdict(OTHER_DIGEST if pod.differs else DIGEST, problem)
        if problem is None:
            self.trusted.add(pod.revision)

    # --- time and people

    def waited(self) -> None:
        """Have time go on, or a clock be set back."""
        self.now += timedelta(seconds=SPANS[self.choose(len(SPANS))])

    def changed(self) -> None:
        self.wanted = WISHES[self.choose(len(WISHES))]

    def scaled(self) -> None:
        self.replicas = REPLICAS[self.choose(len(REPLICAS))]

    def replanned(self) -> None:
        self.rollout, self.routed = self.choose(len(ROLLOUTS)), bool(self.choose(4) // 3)

    def commanded(self) -> None:
        verb = list(Verb)[self.choose(len(Verb))]
        named = [*QUALITIES, "", "", ""][self.choose(len(QUALITIES) + 3)] if verb is Verb.ROLLBACK else ""
        self.command = f"{verb} {named} {self.number()}"

    def service_deleted(self) -> None:
        self.service = self.previewed = None

    def status_cleared(self) -> None:
        self.status = {}

    def revision_deleted(self) -> None:
        """Have a revision be deleted with its Deployment, as somebody who tidies up would."""
        former = [each for each in self.stored if each != self.wanted]
        if former:
            gone = former[self.choose(len(former))]
            self.stored.remove(gone)
            self.deployments.pop(gone, None)
            self.pods = [pod for pod in self.pods if pod.revision != gone]

    def _crashing(self) -> Iterator[Pass]:
        """Have the pods of the revision on its way crash, and nothing else happen for a while, and then for long."""
        if self.last is None or self.last.moving is None:
            return
        self.dead, self.late = self.last.moving.name, ""
        for overdue in (False, True):
            for _ in range(MAKING_UP):
                self.evicted()
                yield self._progressed()
                self.now += timedelta(minutes=11) if overdue else timedelta(seconds=1)
            yield replace(self.passed(), dead=self.dead, overdue=overdue)
        self.dead = ""

    # --- rest

    def calm(self) -> Iterator[Pass]:
        """Have nothing be in the way any more, and the operator make passes, without an end."""
        last, self.late = None, ""
        while True:
            self.evicted()
            made = self._progressed()
            yield made
            due = made.step.due if made.step == last else None
            self.now += timedelta(seconds=due or 5)
            last = made.step

    def _progressed(self) -> Pass:
        self.control(*self.deployments)
        self.started()
        self.inspected()
        return self.passed()


EVENTS: Final = (
    *("passed",) * 14,
    *("crashed",) * 3,
    *("stale",) * 3,
    *("progressed",) * 12,
    *("controlled",) * 7,
    *("started",) * 4,
    *("started_one",) * 6,
    *("inspected",) * 8,
    *("waited",) * 4,
    *("flapped",) * 2,
    *("changed",) * 3,
    *("scaled",) * 2,
    *("commanded",) * 2,
    "crashing", "died", "node_lost", "evicted", "restarted", "replanned",
    *("delayed",) * 2,
    "service_deleted", "status_cleared", "revision_deleted",
)  # fmt: skip

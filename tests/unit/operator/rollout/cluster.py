"""Pods, and what a cluster does with them by itself."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Final

from unit.operator.rollout.wishes import QUALITIES, Quality

NODES: Final = 3


@dataclass(slots=True)
class Live:
    """A pod as it is."""

    uid: int
    revision: str
    differs: bool
    ready: bool = False
    lost: bool = False


class Cluster:
    """The pods of one ModelDeployment; `choose` says which of so many, where one is to be chosen."""

    def __init__(self, choose: Callable[[int], int]) -> None:
        self.choose = choose
        self._uids = count()
        self._made: Counter[str] = Counter()
        self.deployments: dict[str, int] = {}
        self.pods: list[Live] = []
        self.late = ""
        """Revision whose Deployment is not looked after for a while."""
        self.dead = ""
        """Revision of which no pod is ready any more."""

    def number(self) -> int:
        """Return a number that there has not been yet."""
        return next(self._uids)

    def controlled(self) -> None:
        """Have the Deployments' controller create and delete pods, of all revisions or of one."""
        names = [*self.deployments]
        number = self.choose(len(names) + 2)
        self.control(*(names[number : number + 1] or names))

    def control(self, *names: str) -> None:
        """Have the Deployments' controller create and delete pods of revisions that it is not late with."""
        for name in (each for each in names if each != self.late):
            desired = self.deployments[name]
            ours = sorted((pod for pod in self.pods if pod.revision == name), key=lambda pod: pod.ready)
            for pod in ours[: max(0, len(ours) - desired)]:
                self.pods.remove(pod)
            for _ in range(desired - len(ours)):
                self._made[name] += 1
                differs = QUALITIES[name] is Quality.MIXED and self._made[name] > 2
                self.pods.append(Live(self.number(), name, differs))

    def delayed(self) -> None:
        """Have the Deployments' controller be late with a revision, or with none any more."""
        self.late = ["", *self.deployments][self.choose(len(self.deployments) + 1)]

    def started(self) -> None:
        """Have all pods become ready that can."""
        for pod in self.pods:
            pod.ready = self._can_be_ready(pod)

    def started_one(self) -> None:
        """Have one pod become ready, if it can."""
        if waiting := [pod for pod in self.pods if not pod.ready and self._can_be_ready(pod)]:
            waiting[self.choose(len(waiting))].ready = True

    def _can_be_ready(self, pod: Live) -> bool:
        return not pod.lost and pod.revision != self.dead and QUALITIES[pod.revision] is not Quality.UNREADY

    def flapped(self) -> None:
        """Have a pod be unready for a while."""
        if self.pods:
            self.pods[self.choose(len(self.pods))].ready = False

    def died(self) -> None:
        """Have a pod be gone."""
        if self.pods:
            self.pods.pop(self.choose(len(self.pods)))

    def node_lost(self) -> None:
        """Have the pods of a node be unready for good."""
        node = self.choose(NODES)
        for pod in self.pods:
            if pod.uid % NODES == node:
                pod.ready, pod.lost = False, True

    def evicted(self) -> None:
        """Have the pods of lost nodes be deleted."""
        self.pods = [pod for pod in self.pods if not pod.lost]

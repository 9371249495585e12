"""A ModelDeployment that follows its load: what a watch tells of it, and what clients see when the load rises."""

import math
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from itertools import groupby, pairwise
from typing import Any

from devcluster.cluster import Cluster
from support import heavy
from support.loading import Load, Window
from support.served import Served
from support.watching import History, Moment, watching

LIGHT = "configmap://breast-cancer/model.onnx"
HEAVY = "configmap://heavy/model.onnx"
RUN = 0.01
"""Seconds of a processor that one run of the heavy model takes."""
_HEAD = """
| load step ×5 | decided after | pods ready after | pods | calls | failed | refused, asked again | before: answers/s, p50, p99 | during | after |
|---|---|---|---|---|---|---|---|---|---|"""  # noqa: E501 - a table's head is one line


@dataclass(frozen=True, slots=True)
class Case:
    """What is to be followed, and a load that asks for five times the pods when it rises."""

    metric: str
    target: str
    least: int
    """Pods for the load before."""
    enough: int
    """Pods that the risen load asks for at least."""
    most: int
    server: dict[str, Any]
    """What makes a pod slow."""
    model: str
    base: str
    """Clients, as `load.py` describes them."""
    rise: str
    """Clients that come besides."""

    @property
    def autoscaling(self) -> dict[str, Any]:
        """Return the field of the spec."""
        return {
            "metric": self.metric,
            "target": self.target,
            "minReplicas": self.least,
            "maxReplicas": self.most,
        }


def numbers(moments: Iterable[Moment]) -> list[int]:
    """Return the numbers of pods that were asked for, one after another."""
    return [wanted for wanted, _ in groupby(moment.wanted for moment in moments)]


def turns(moments: Iterable[Moment]) -> int:
    """Return how often the number of pods fell after it rose, or rose after it fell."""
    rises = [later > earlier for earlier, later in pairwise(numbers(moments))]
    return sum(later != earlier for earlier, later in pairwise(rises))


@dataclass(frozen=True, slots=True)
class Scaled:
    """A ModelDeployment that follows a load."""

    case: Case
    served: Served
    history: History
    base: Load

    def rise(self) -> AbstractContextManager[Load]:
        """Have the load be five times what it was, until the block ends."""
        return self.served.running_load(self.case.rise)

    def settled(self, begun: float = 0) -> Moment:
        """Return the first moment since `begun` at which all pods are ready that the risen load asks for."""
        return self.history.first(
            f"{self.case.enough} pods or more, all ready",
            lambda moment: moment.ready == moment.wanted >= self.case.enough,
            begun,
        )

    def turned(self, edges: Sequence[float]) -> list[int]:
        """Return how often the number of pods turned from each of some moments to the next."""
        until = [turns(self.history.between(0, edge)) for edge in (*edges[1:], math.inf)]
        return [later - earlier for earlier, later in pairwise([0, *until])]

    def told(self, begun: float) -> str:
        """Return each number of pods that was asked for, with the seconds since a moment."""
        moments = self.history.between(begun)
        changes = ((b.at - begun, b.wanted) for a, b in pairwise(moments) if a.wanted != b.wanted)
        return f"{self.case.metric}: {moments[0].wanted}" + "".join(f" → {n} ({at:.1f} s)" for at, n in changes)


def create_models(cluster: Cluster, namespace: str) -> None:
    """Keep the models of all cases in a namespace."""
    served = Served(cluster, namespace)
    served.create_models()
    with tempfile.NamedTemporaryFile() as file:
        file.write(heavy.model(RUN))
        file.flush()
        served.kubectl("create", "configmap", "heavy", f"--from-file=model.onnx={file.name}")


def deploy(cluster: Cluster, namespace: str, case: Case) -> Served:
    """Apply the ModelDeployment of a case, without a number of replicas."""
    served = Served(cluster, namespace, case.metric.lower())
    served.apply(served.name, {"model": {"uri": case.model}, **case.server, "autoscaling": case.autoscaling})
    return served


@contextmanager
def scaled(cluster: Cluster, namespace: str, case: Case) -> Iterator[Scaled]:
    """Deploy a case, and have its load begin when all its pods are ready."""
    served = deploy(cluster, namespace, case)
    with watching(cluster, namespace, served.name) as history:
        history.first(f"{case.least} ready", lambda moment: moment.ready == moment.wanted == case.least)
        with served.running_load(case.base) as base:
            yield Scaled(case, served, history, base)


def together(base: Window, *others: Window) -> Window:
    """Return what several loads saw at the same time, which is that of the first."""
    seen = Window()
    for window in (base, *others):
        seen.add(window)
    seen.seconds = base.seconds
    return seen


@dataclass
class Step:
    """What became of a load that rose to five times."""

    case: Case
    decided: float
    """Seconds from its first call to the write of more replicas."""
    ready: float
    """Seconds from its first call until all pods were ready."""
    pods: int
    windows: list[Window] = field(default_factory=list)
    """Before, during and after."""

    def row(self) -> str:
        """Return the figures as a row of the table."""
        calls, failed, refused = (
            sum(getattr(window, what) for window in self.windows) for what in ("calls", "failed", "refused")
        )
        figures = (
            f"{w.throughput:.0f}, {1e3 * w.latency(0.5):.0f} ms, {1e3 * w.latency(0.99):.0f} ms" for w in self.windows
        )
        name = f"{self.case.metric} {self.case.target}"
        spans = (name, f"{self.decided:.1f} s", f"{self.ready:.0f} s", f"{self.case.least} → {self.pods}")
        return f"| {' | '.join((*spans, f'{calls:,}', str(failed), str(refused), *figures))} |"


def table(steps: Iterable[Step]) -> str:
    """Return the figures of several steps."""
    return "\n".join((_HEAD, *(step.row() for step in steps)))

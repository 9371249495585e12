"""A model that this server serves, and where it stands."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from onceserve_serving import cpus
from onceserve_serving.admission import Admission, Capacity
from onceserve_serving.batching.batcher import Batcher
from onceserve_serving.batching.flush import Limits
from onceserve_serving.engine.runner import Runner
from onceserve_serving.errors import NotReadyError, UnknownModelError
from onceserve_serving.telemetry import Telemetry
from onceserve_serving.tensors import Signature


class State(StrEnum):
    """A model's states, in the words of the protocol's repository extension."""

    LOADING = "LOADING"
    READY = "READY"
    UNAVAILABLE = "UNAVAILABLE"
    UNLOADED = "UNLOADED"


WORDS: Final = {
    State.LOADING: "the model is loading",
    State.READY: "ready",
    State.UNAVAILABLE: "the model could not be loaded",
    State.UNLOADED: "the model has been unloaded",
}


DEFAULT_LIMITS: Final = Limits(rows=32)
DEFAULT_CAPACITY: Final = Capacity(concurrency=64, queue=256, queue_bytes=128 * 2**20)


@dataclass(frozen=True, slots=True)
class Terms:
    """On what terms models are served."""

    telemetry: Telemetry = field(default_factory=Telemetry)
    batches: Limits = DEFAULT_LIMITS
    capacity: Capacity = DEFAULT_CAPACITY
    processors: int = field(default_factory=cpus.limit)


class ServedModel:
    """One model under one name and version; it has a runner while it is loaded."""

    def __init__(self, name: str, version: str, terms: Terms | None = None) -> None:
        self.name = name
        self.version = version
        self.state = State.LOADING
        self.reason = ""
        self.sha256 = ""
        self._terms = terms or Terms()
        self._runner: Runner | None = None
        self._batcher: Batcher | None = None
        self._admission = Admission(self._terms.capacity, self._terms.telemetry.rejected)

    def install(self, runner: Runner, *, merges: bool = False, sha256: str = "") -> None:
        """Serve with this runner from now on; `merges`: requests may go through it together."""
        self._runner = runner
        self.sha256 = sha256
        terms = self._terms
        self._batcher = Batcher(
            self.name, runner, terms.batches, terms.telemetry, merges=merges, in_haste=self._is_in_haste
        )
        self.state = State.READY
        self.reason = ""

    def fail(self, reason: str) -> None:
        """Record why the model cannot be served."""
        self.state = State.UNAVAILABLE
        self.reason = reason

    async def retire(self) -> None:
        """Take no more requests, and end when those that have come are answered."""
        self.state = State.UNLOADED
        await self._admission.drained()
        if self._runner is not None:
            self._runner.thread.close()
        self._runner = self._batcher = None

    @property
    def signature(self) -> Signature | None:
        """What the model takes and gives; None while it is not loaded."""
        return None if self._runner is None else self._runner.signature

    @property
    def queued(self) -> int:
        """How many requests wait for their turn."""
        return self._admission.queued

    @property
    def aside(self) -> int:
        """How many requests gave their place to others while they wait for the store."""
        return self._admission.aside

    @property
    def busy(self) -> bool:
        """Whether a run or a load goes on off the event loop."""
        return self._runner is not None and self._runner.thread.busy

    def check(self, version: str | None) -> None:
        """Raise UnknownModelError unless this version is meant; None means any."""
        if version is not None and version != self.version:
            raise UnknownModelError(
                f"model {self.name!r} has no version {version[:256]!r} here; it has {self.version!r}"
            )

    def check_room(self, size: int) -> None:
        """Raise OverloadedError if a request of so many bytes would be refused now, NotReadyError if any would."""
        _, admission, _ = self.journey()
        admission.check_room(size)

    def runner(self) -> Runner:
        """Return what runs the model, or raise NotReadyError."""
        if self._runner is None or self.state is not State.READY:
            raise NotReadyError(f"model {self.name!r} does not answer: {self.describe()}")
        return self._runner

    def journey(self) -> tuple[Signature, Admission, Batcher]:
        """Return what a request must fit and what it passes on its way, or raise NotReadyError."""
        if self._runner is None or self._batcher is None or self.state is not State.READY:
            raise NotReadyError(f"model {self.name!r} does not answer: {self.describe()}")
        return self._runner.signature, self._admission, self._batcher

    def describe(self) -> str:
        """Return the state in words for a person."""
        return f"{WORDS[self.state]}: {self.reason}" if self.reason else WORDS[self.state]

    def _is_in_haste(self) -> bool:
        # Where there is another processor, it refuses while the model runs.
        return self._terms.processors == 1 and self._admission.is_overrun()

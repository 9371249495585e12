"""From where a model lies to a model that answers."""

import logging
import time
from typing import Final, NamedTuple
from weakref import WeakSet

from onceserve_serving import model_source
from onceserve_serving.batching.probe import treats_rows_alone
from onceserve_serving.catalog import Source
from onceserve_serving.engine import ort
from onceserve_serving.engine.runner import Runner, gain, in_bulk, warm_up
from onceserve_serving.engine.thread import InferenceThread
from onceserve_serving.served import ServedModel
from onceserve_serving.settings import Settings
from onceserve_serving.telemetry import Telemetry

log = logging.getLogger(__name__)

WORTH_MERGING: Final = 1.05
"""What a batch gains at least, for a model whose requests go through it together."""


class Loaded(NamedTuple):
    """A warm model, whether requests go through it together, what that gains (None: unknown), and its SHA-256."""

    runner: Runner
    merges: bool
    gain: float | None
    sha256: str


class Loader:
    """Loads models, each in an inference thread of its own, so that none holds up the others."""

    def __init__(self, settings: Settings, telemetry: Telemetry) -> None:
        self._settings = settings
        self._telemetry = telemetry
        self._threads: WeakSet[InferenceThread] = WeakSet()

    @property
    def busy(self) -> bool:
        """Whether a load or a run goes on in some thread."""
        return any(thread.busy for thread in self._threads)

    async def load(self, source: Source, model: ServedModel) -> None:
        """Load a source and install it; raises ModelUnavailableError."""
        started = time.monotonic()
        thread = InferenceThread()
        self._threads.add(thread)
        try:
            loaded = await thread.call(lambda: load(source, self._settings, thread))
        except BaseException:
            thread.close()
            raise
        model.install(loaded.runner, merges=loaded.merges, sha256=loaded.sha256)
        seconds = time.monotonic() - started
        self._telemetry.loaded(model.name, model.version, loaded.sha256, seconds)
        facts = {
            "model": model.name,
            "version": model.version,
            "sha256": loaded.sha256,
            "seconds": seconds,
            "batched": loaded.merges,
            "batch_gain": loaded.gain,
        }
        log.info("model %s is loaded", model.name, extra=facts)


def load(source: Source, settings: Settings, thread: InferenceThread) -> Loaded:
    """Fetch, verify, load and warm up a model; blocks for seconds. Raises ModelUnavailableError."""
    model = model_source.fetch(source.uri, sha256=source.sha256, max_bytes=settings.max_model_bytes)
    engine = ort.load(model.content, settings.threads, settings.providers)
    warm = warm_up(engine)
    able = settings.max_batch_size > 1 and treats_rows_alone(engine, warm.inputs)
    bulk = in_bulk(engine, warm, settings.max_batch_size) if able else None
    gained = gain(warm, bulk) if bulk else None
    merges = able and is_worth_merging(gained, settings.max_delay)
    return Loaded(Runner(engine, thread, warm, bulk), merges, gained, model.sha256)


def is_worth_merging(gained: float | None, max_delay: float) -> bool:
    """Tell whether requests are to go through a model together, by what that gains (None: unknown).

    A batch that gains nothing takes memory, and holds back the answers of all until the last is there; but who lets
    requests wait for others wants them together.
    """
    return gained is None or gained >= WORTH_MERGING or max_delay > 0

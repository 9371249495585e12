import asyncio
import threading
from collections.abc import Sequence

import pytest

from onceserve_serving.admission import Capacity
from onceserve_serving.errors import InvalidSettingsError, StoreRefusedError
from onceserve_serving.idempotency import answers
from onceserve_serving.idempotency.answers import Answers
from onceserve_serving.idempotency.guard import Terms
from onceserve_serving.idempotency.memory import MemoryStore
from onceserve_serving.idempotency.store import StoreUnavailableError
from onceserve_serving.settings import Settings
from onceserve_serving.telemetry import Telemetry

CAPACITY = Capacity(concurrency=1, queue=0, queue_bytes=0)
TERMS = Terms(lease=30, retention=300, fail_open=False, ledger=False, recalls=CAPACITY)


class Watched(MemoryStore):
    """Fails as planned when it is opened and swept, and counts."""

    def __init__(self, *sweeps: Exception, on_open: Exception | None = None) -> None:
        super().__init__()
        self.closed = 0
        self.swept = asyncio.Event()
        self._sweeps = list(sweeps)
        self._on_open = on_open

    async def open(self) -> Sequence[str]:
        if self._on_open is not None:
            raise self._on_open
        return await super().open()

    async def sweep(self) -> int:
        if self._sweeps:
            raise self._sweeps.pop(0)
        self.swept.set()
        return await super().sweep()

    async def close(self) -> None:
        self.closed += 1


def of(store: MemoryStore) -> Answers:
    return Answers(store, TERMS, Telemetry())


def left() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "lease renewal"]


async def test_closing_leaves_neither_thread_nor_task(caplog: pytest.LogCaptureFixture) -> None:
    store = Watched()
    used = of(store)
    await used.open()
    assert "forgets every answer when this process ends" in caplog.text
    assert left()
    await used.close()
    # The store itself, and what renews, over a connection of its own.
    assert store.closed == 2
    assert not left()
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.parametrize("error", [StoreUnavailableError("away"), RuntimeError("away")])
async def test_a_sweep_that_fails_is_told_and_not_the_last(
    error: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(answers, "SWEEP", 0.001)
    store = Watched(error)
    used = of(store)
    await used.open()
    await store.swept.wait()
    await used.close()
    assert "answers that are kept no longer could not be removed: away" in caplog.text
    assert not left()


async def test_a_store_that_is_away_does_not_keep_the_server_from_starting(caplog: pytest.LogCaptureFixture) -> None:
    used = of(Watched(on_open=StoreUnavailableError("away")))
    await used.open()
    await used.close()
    assert "cannot be reached, requests with a key are refused: away" in caplog.text
    assert not left()


async def test_a_store_not_to_rely_on_is_refused_and_closed() -> None:
    store = Watched(on_open=InvalidSettingsError("it forgets"))
    used = of(store)
    with pytest.raises(StoreRefusedError, match="it forgets"):
        await used.open()
    await used.close()
    assert store.closed == 1
    assert not left()


class Stuck(MemoryStore):
    """Never lets go."""

    async def close(self) -> None:
        await asyncio.Event().wait()


async def test_a_store_that_hangs_is_left(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(answers, "CLOSING", 0.05)
    used = of(Stuck())
    await asyncio.wait_for(used.close(), 5)
    assert "the store of idempotency does not let go, and was left" in caplog.text


async def test_there_are_answers_where_the_settings_name_a_store() -> None:
    def made(**settings: str) -> Answers | None:
        return answers.from_settings(Settings(model_uri="/m.onnx", **settings), CAPACITY, Telemetry())  # type: ignore[arg-type]

    assert made() is None
    assert made(idempotency_store="memory:", idempotency_mode="disabled") is None
    used = made(idempotency_store="memory:", idempotency_when_store_fails="fail-open")
    assert used is not None
    assert used.guard._terms == Terms(30.0, 86_400.0, fail_open=True, ledger=False, recalls=CAPACITY)
    with pytest.raises(StoreRefusedError, match="begins with none of memory:, sqlite:"):
        made(idempotency_store="mysql://h/d")
    with pytest.raises(StoreRefusedError, match="of the type redis, and its URL begins with memory:"):
        made(idempotency_store="memory:", idempotency_store_type="redis")

"""What probes are told, by the real server."""

import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from onceserve_operator import health
from onceserve_operator.health import Health


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def state(clock: Clock) -> Health:
    return Health(clock)


@pytest.fixture
def url(state: Health) -> Iterator[str]:
    server = health.serve(state, 0)
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def ask(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_what_moves_in_time_is_alive(state: Health, clock: Clock, url: str) -> None:
    state.expect("the resync", 60)
    clock.now = 59
    state.expect("the resync", 60)
    clock.now = 118
    assert ask(f"{url}/healthz") == (200, "ok\n")


def test_what_is_late_is_named(state: Health, clock: Clock, url: str) -> None:
    state.expect("the resync", 60)
    state.expect("the lease", 10)
    clock.now = 72
    assert ask(f"{url}/healthz") == (503, "the lease is 62 s late\nthe resync is 12 s late\n")
    state.expect("the lease", 10)
    assert ask(f"{url}/healthz") == (503, "the resync is 12 s late\n")


def test_what_has_ended_is_never_late_however_it_ended(state: Health, clock: Clock, url: str) -> None:
    with pytest.raises(OSError, match="away"), state.ends("a pass", 60):
        raise OSError("away")
    clock.now = 100
    assert ask(f"{url}/healthz") == (200, "ok\n")


def test_what_does_not_end_is_late(state: Health, clock: Clock, url: str) -> None:
    with state.ends("the pass of team/risk", 60):
        clock.now = 61
        assert ask(f"{url}/healthz") == (503, "the pass of team/risk is 1 s late\n")


def test_what_is_lacking_is_a_matter_of_readiness_alone(state: Health, url: str) -> None:
    state.lacks("lease", "the lease has not been read yet")
    assert ask(f"{url}/readyz") == (503, "the lease has not been read yet\n")
    assert ask(f"{url}/healthz") == (200, "ok\n")
    state.lacks("lease", None)
    assert ask(f"{url}/readyz") == (200, "ok\n")


async def test_an_event_loop_that_is_stuck_is_told_of(url: str, state: Health, clock: Clock) -> None:
    state.expect("the lease", 30)
    with ThreadPoolExecutor(1) as kubelet:
        clock.now = 31
        asked = kubelet.submit(ask, f"{url}/healthz")
        # As code does that never awaits.
        assert asked.result(timeout=5) == (503, "the lease is 1 s late\n")


def test_nothing_else_is_there(url: str) -> None:
    assert ask(f"{url}/metrics")[0] == 404

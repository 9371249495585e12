"""What the tests of autoscaling count: turns of a number of pods, and clients that are told to come again."""

from http.server import BaseHTTPRequestHandler
from itertools import count

import pytest

from support import load
from support.load import Caller, PatientCaller
from support.loopback import LoopbackServer
from support.scaling import numbers, turns
from support.watching import Moment


def moments(*wanted: int) -> list[Moment]:
    return [Moment(at, number, number, "Stable") for at, number in enumerate(wanted)]


@pytest.mark.parametrize(
    ("wanted", "turned"),
    [((), 0), ((2,), 0), ((2, 2, 5, 5, 10), 0), ((2, 5, 5, 3), 1), ((2, 5, 3, 3, 1), 1), ((2, 5, 2, 5, 2), 3)],
)
def test_turns(wanted: tuple[int, ...], turned: int) -> None:
    assert turns(moments(*wanted)) == turned


def test_numbers_that_follow_each_other() -> None:
    assert numbers(moments(2, 2, 1, 1, 2)) == [2, 1, 2]


def refusing(times: int) -> type[BaseHTTPRequestHandler]:
    """Return what refuses the first calls, and says to come again at once."""

    class Handler(BaseHTTPRequestHandler):
        calls = count()

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(429 if next(self.calls) < times else 200)
            self.send_header("Retry-After", "1" if times > 2 else "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    return Handler


def test_who_is_patient_comes_again() -> None:
    refused: list[int] = []
    with LoopbackServer(refusing(2)) as server:
        caller = PatientCaller(f"{server.url}/infer", b"{}", lambda: refused.append(429))
        assert caller.call().status == 200
    assert refused == [429, 429]


def test_who_is_not_patient_is_told_once() -> None:
    with LoopbackServer(refusing(1)) as server:
        assert Caller(f"{server.url}/infer", b"{}", "new").call().status == 429


def test_patience_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "PATIENCE", 0.5)
    with LoopbackServer(refusing(3)) as server:
        assert PatientCaller(f"{server.url}/infer", b"{}", lambda: None).call().status == 429

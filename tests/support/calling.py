"""A client that retries, as people are given it, beside a cluster in which something happens; and what it saw."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onceserve_client
from support.calls import Call, Try
from support.loading import CLIENT_NODE
from support.served import ROWS, Served, request_body
from support.waiting import PATIENCE

PROGRAM = Path(__file__).with_name("calls.py")
CLIENT_PATH = Path(onceserve_client.__file__).parents[1]
RATE = 12
"""Calls a second."""


class Seen:
    """What became of all calls; there when the client has ended."""

    calls: list[Call]

    @property
    def failed_first(self) -> list[float]:
        """When the first tries were begun that failed: a client that does not retry would have lost these calls."""
        return [call.tries[0].at for call in self.calls if call.tries[0].outcome != "200"]

    def summary(self) -> str:
        """Return the figures."""
        most = max(len(call.tries) for call in self.calls)
        return f"{len(self.calls)} calls, {len(self.failed_first)} of them failed at first, at most {most} tries"

    def check_answers(self) -> None:
        """Each call was answered, and its key has that one answer."""
        unanswered = [call for call in self.calls if not call.answer.startswith("200 ")]
        assert not unanswered, unanswered[:5]
        divergent = [call for call in self.calls if (call.again, call.replayed) != (call.answer, True)]
        assert not divergent, divergent[:5]


@contextmanager
def calling(served: Served) -> Iterator[Seen]:
    """Call for as long as the block takes, and then until each call has its answer."""
    seen = Seen()
    with tempfile.NamedTemporaryFile() as body:
        body.write(request_body(ROWS[:1]))
        body.flush()
        # -P: beside the program are modules that have names of Python's own.
        program = [sys.executable, "-P", str(PROGRAM), served.url, body.name, str(RATE)]
        command = served.cluster.exec_command(CLIENT_NODE, program)
        process = subprocess.Popen(
            list(map(str, command)), stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(CLIENT_PATH)}
        )
        try:
            yield seen
            process.terminate()
            output, _ = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()
            process.wait()
    seen.calls = [Call(**told | {"tries": [Try(**each) for each in told["tries"]]}) for told in json.loads(output)]

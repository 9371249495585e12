"""Rounds over all servers: A B C, A B C, …, each started afresh: a slow minute hits all alike."""

import contextlib
import http.client
import platform
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks import client, environments, machine, memory, payloads, processes, wrk
from benchmarks.errors import BenchmarkError, UnservedError
from benchmarks.machine import Cores
from benchmarks.models import Model
from benchmarks.payloads import Form, Payload
from benchmarks.processes import Server
from benchmarks.results import Case, Footprint, Results, Timing, Unserved
from benchmarks.subjects import HOST, Subject

ADDRESS: Final = r"(?!127\.)(?:\d{1,3}\.){3}\d{1,3}"
LONGER: Final[Mapping[str, int]] = {"image": 2}
"""How many times as long the loads of a model are of which slow servers answer ten a second."""
START: Final = 120.0
"""Seconds that a server has from its start to its first answer."""


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    rounds: int
    seconds: float
    warm_up: float
    models: Mapping[str, Model]
    every_model: Mapping[str, Model]
    connections: Mapping[str, Sequence[int]]
    cores: Cores
    scratch: Path


@dataclass(frozen=True)
class Site:
    """A running server with the model that it serves."""

    subject: Subject
    model: Model
    server: Server
    port: int

    @property
    def url(self) -> str:
        """Where to POST to."""
        return f"http://{HOST}:{self.port}{self.subject.path.format(model=self.model.name)}"

    def payload(self, form: Form) -> Payload:
        """Return the request in one form."""
        return payloads.request(self.model, self.subject.style, form)

    def check(self, form: Form) -> None:
        """Raise UnservedError unless the server answers rightly in this form."""
        try:
            reply = client.post(self.url, self.payload(form))
        except (OSError, http.client.HTTPException) as error:
            self.server.check_alive()
            raise UnservedError(f"does not answer: {error!r}") from error
        if self.subject.checked:
            payloads.check(self.model, reply, self.subject.style)


def run(subjects: Sequence[Subject], plan: Plan, results: Results) -> None:
    """Measure every server with every model, round after round."""
    for number in range(1, plan.rounds + 1):
        run_round(subjects, number, plan, results)


def run_round(subjects: Sequence[Subject], number: int, plan: Plan, results: Results) -> None:
    """Measure every server once with every model."""
    results.busy.append(machine.busy_share(1.0))
    for subject in subjects:
        for model in plan.models.values():
            _turn(subject, model, number, plan, results)


def _turn(subject: Subject, model: Model, number: int, plan: Plan, results: Results) -> None:
    if any((one.subject, one.model, one.form) == (subject.name, model.name, "") for one in results.unserved):
        return
    print(f"round {number}/{plan.rounds}: {subject.name}, {model.name}", file=sys.stderr, flush=True)
    try:
        _measure(subject, model, number, plan, results)
    except BenchmarkError as error:
        results.note(Unserved(subject.name, model.name, "", impersonal(error, plan)))


def impersonal(error: BenchmarkError, plan: Plan) -> str:
    """Return an error's words without the paths and the name of this machine: they are kept and published."""
    text = str(error)
    places = {plan.scratch: "SCRATCH", environments.cache(): "ENVIRONMENTS", machine.ROOT: "ROOT", Path.home(): "HOME"}
    for place, name in places.items():
        text = text.replace(str(place), name)
    return re.sub(rf"\b(?:{re.escape(platform.node())}|{ADDRESS})\b", "HOST", text)


def _measure(subject: Subject, model: Model, number: int, plan: Plan, results: Results) -> None:
    # Installing a peer on first use is no part of its start.
    subject.command(model, 0)
    started = time.monotonic()
    with serving(subject, model, plan) as site:
        seconds, idle = time.monotonic() - started, memory.of(site.server.family())
        served, refused = served_forms(site)
        for form, error in refused.items():
            results.note(Unserved(subject.name, model.name, form, impersonal(error, plan)))
        for form in served:
            results.timings.extend(_loads(site, form, number, plan))
        loaded = memory.of(site.server.family())
        results.footprints.append(Footprint(subject.name, model.name, number, round(seconds, 2), idle, loaded))


@contextlib.contextmanager
def serving(subject: Subject, model: Model, plan: Plan, log: str = "server.log") -> Iterator[Site]:
    """Run a server that answers until the block ends; raises UnservedError if it never does."""
    port = processes.free_port()
    with processes.running(
        subject.command(model, port),
        core=plan.cores.server,
        log=plan.scratch / log,
        environment={**_homes(plan.scratch), **subject.environment},
    ) as server:
        site = Site(subject, model, server, port)
        wait_ready(site)
        yield site


def _homes(scratch: Path) -> dict[str, str]:
    """Return an environment in which what servers write goes with the run."""
    return dict.fromkeys(("HOME", "TMPDIR", "RAY_TMPDIR", "BENTOML_HOME"), str(scratch))


def wait_ready(site: Site) -> None:
    """Wait until the server answers at all, whatever it answers, and past that until the model is there."""
    site.server.wait(lambda: _answers(site), START)


def _answers(site: Site) -> bool:
    try:
        reply = client.post(site.url, site.payload(Form.JSON))
    except (OSError, http.client.HTTPException):
        return False
    # Frameworks answer 404 and 5xx while they load; one that never does better is told by the check.
    return reply.status == 200 or (reply.status < 500 and reply.status != 404)  # noqa: PLR2004


def served_forms(site: Site) -> tuple[list[Form], dict[Form, UnservedError]]:
    """Return the forms in which the server answers rightly, and what is wrong with the others."""
    refused = {}
    for form in site.subject.forms:
        try:
            site.check(form)
        except UnservedError as error:
            site.server.check_alive()
            refused[form] = error
    return [form for form in site.subject.forms if form not in refused], refused


def _loads(site: Site, form: Form, number: int, plan: Plan) -> Iterator[Timing]:
    counts = plan.connections[site.model.name]
    load(site, form, max(counts), plan.warm_up, plan)
    for connections in counts:
        measured = load(site, form, connections, plan.seconds * LONGER.get(site.model.name, 1), plan)
        yield Timing(site.subject.name, Case(site.model.name, form, connections), number, measured)
        site.check(form)


def load(site: Site, form: Form, connections: int, seconds: float, plan: Plan) -> wrk.Load:
    """Load a server from the other core."""
    return wrk.run(
        site.url,
        site.payload(form),
        connections=connections,
        seconds=seconds,
        core=plan.cores.load,
        scratch=plan.scratch,
    )

"""What a leader does, where the API server answers with what it has and takes what it is given."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any, cast

import pytest

from onceserve_operator import leading as leading_module
from onceserve_operator import main
from onceserve_operator.domain import Key, Manifest
from onceserve_operator.errors import NotFoundError
from onceserve_operator.health import Health
from onceserve_operator.kube import kinds
from onceserve_operator.kube.client import Client
from onceserve_operator.kube.connection import Connection
from onceserve_operator.kube.kinds import Kind
from onceserve_operator.leading import Leading
from onceserve_operator.settings import Settings
from onceserve_operator.telemetry import Metrics
from support.modeldeployments import MINIMAL, deployment, merged

PLACE = "nested data"


class ApiServer:
    """Stands in for a Connection; what it has, it has as JSON."""

    def __init__(self) -> None:
        self.objects: dict[tuple[Kind, str], str] = {}
        self.listings = 0
        self._numbers = count(1)

    def has(self, name: str, spec: Manifest = MINIMAL, *, nested: int = 0, **status: object) -> None:
        """Have a ModelDeployment, in whose spec the text PLACE stands for lists in one another."""
        resource = {**deployment(spec, name), "status": status}
        text = self._stored(kinds.MODEL_DEPLOYMENT, name, {**resource, "metadata": {"name": name, "generation": 1}})
        self.objects[kinds.MODEL_DEPLOYMENT, name] = text.replace(f'"{PLACE}"', "[" * nested + "]" * nested)

    def status(self, name: str) -> dict[str, Manifest]:
        """Return the conditions as last written, by their type."""
        conditions = json.loads(self.objects[kinds.MODEL_DEPLOYMENT, name])["status"].get("conditions", [])
        return {each["type"]: each for each in conditions}

    async def request(
        self, _method: str, verb: str, kind: Kind, _namespace: str | None, name: str | None = None, **params: Any
    ) -> Manifest:
        """Answer as a Connection does."""
        await asyncio.sleep(0)
        return cast("Manifest", json.loads(self._answer(verb, kind, name or "", params.get("body"))))

    def _answer(self, verb: str, kind: Kind, path: str, body: Manifest | None) -> str:
        name, _, subresource = path.partition("/")
        known = self.objects.get((kind, name))
        if verb == "list":
            self.listings += kind == kinds.MODEL_DEPLOYMENT
            items = ",".join(text for (each, _), text in self.objects.items() if each == kind)
            return f'{{"metadata": {{"resourceVersion": "{next(self._numbers)}"}}, "items": [{items}]}}'
        if verb == "create":
            return json.dumps(body)
        if verb == "patch" and body:
            wanted = {**json.loads(known or "{}"), "status": body["status"]} if subresource else body
            return self._stored(kind, name, wanted)
        if known is None:
            raise NotFoundError(f"{kind.plural} {path} not found")
        return known

    def _stored(self, kind: Kind, name: str, manifest: Manifest) -> str:
        number = next(self._numbers)
        made = {"namespace": "default", "uid": f"uid-{number}", "creationTimestamp": "2026-01-01T00:00:00Z"}
        metadata = {**made, **manifest["metadata"], "resourceVersion": str(number)}
        self.objects[kind, name] = json.dumps({**manifest, "metadata": metadata})
        return self.objects[kind, name]


@pytest.fixture
def api() -> ApiServer:
    return ApiServer()


@pytest.fixture
async def leading(api: ApiServer, tmp_path: Path) -> AsyncIterator[Leading]:
    settings = Settings(server_image="onceserve/server:1", verification_secret_file=tmp_path, lease_namespace="default")
    client = Client(cast("Connection", api), tenure=lambda: 60)
    leads = Leading(settings, client, Metrics(), Health(), b"secret")
    yield leads
    await leads.stop()


@pytest.fixture
def nesting() -> Iterator[None]:
    """As deep as the process reads."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(main._NESTING)
    yield
    sys.setrecursionlimit(before)


async def until(probe: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not probe():  # noqa: ASYNC110 - what is awaited is a state, not an event
            await asyncio.sleep(0.01)


TENSOR = {"name": "x", "datatype": "FP32", "shape": [1], "data": [PLACE]}
VERIFIED = {"rollout": {"verification": {"requests": [{"inputs": [TENSOR]}]}}}


@pytest.mark.usefixtures("nesting")
@pytest.mark.parametrize("levels", [600, 5_000, 9_990])
async def test_a_spec_that_is_nested_without_measure_is_refused_and_keeps_no_other_waiting(
    leading: Leading, api: ApiServer, levels: int
) -> None:
    api.has("deep", merged(MINIMAL, VERIFIED), nested=levels)
    api.has("good")
    await leading.list_first()
    await leading.catch_up()
    await until(lambda: api.status("deep") and api.status("good"))
    refused = api.status("deep")["SpecAccepted"]
    assert (refused["status"], refused["reason"]) == ("False", "Invalid")
    assert refused["message"].endswith("expected are values flat or by the tensor's dimensions")
    assert api.status("good")["SpecAccepted"]["status"] == "True"
    assert any(kind == kinds.DEPLOYMENT for kind, _ in api.objects)


async def test_the_first_resync_comes_soon_and_learns_what_was_deleted_before_the_watches_began(
    leading: Leading, api: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leading_module, "_WATCHING_SECONDS", 0.05)
    for name in ("gone", "risk"):
        api.has(name)
    await leading.list_first()
    del api.objects[kinds.MODEL_DEPLOYMENT, "gone"]
    resync = asyncio.create_task(leading.resync())
    await until(lambda: leading._cache.keys() == [Key("default", "risk")])
    await asyncio.sleep(0.3)
    assert api.listings == 2
    resync.cancel()


@pytest.mark.parametrize(
    ("status", "followed"),
    [
        ({}, False),
        ({"observedGeneration": 0, "rollout": {"phase": "Stable"}}, False),
        ({"observedGeneration": 1}, True),
        *(({"observedGeneration": 1, "rollout": {"phase": phase}}, True) for phase in ("Stable", "Aborted")),
        *(
            ({"observedGeneration": 1, "rollout": {"phase": phase}}, False)
            for phase in ("Preparing", "Verifying", "Shifting", "Paused", "Finalizing", "Aborting")
        ),
    ],
)
async def test_what_is_under_way_is_looked_at_before_what_rests(
    leading: Leading, api: ApiServer, status: Manifest, followed: bool
) -> None:
    api.has("risk", **status)
    await leading.list_first()
    assert leading._is_followed(Key("default", "risk")) is followed

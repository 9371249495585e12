"""The server under test: any of the Open Inference Protocol that takes an Idempotency-Key; by default our own.

CONFORMANCE_URL is where it is, CONFORMANCE_MODEL the model to ask; default: the first that the server lists.
"""

import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

KEY = "Idempotency-Key"
EXAMPLE = Path(__file__).parents[2] / "examples" / "breast-cancer" / "model.onnx"


@dataclass(frozen=True, slots=True)
class Asker:
    """Asks one model; what it takes was read from the server."""

    client: httpx.Client
    model: str
    inputs: list[dict[str, Any]]

    @property
    def path(self) -> str:
        return f"/v2/models/{self.model}/infer"

    def body(self, value: int = 0) -> dict[str, Any]:
        """Return a request of which every element is 0 or 1."""
        return {"inputs": [_tensor(given, value) for given in self.inputs]}

    def ask(self, *keys: str, value: int = 0, query: str = "") -> httpx.Response:
        """Send a request with these values of the header."""
        headers = [(KEY.encode(), key.encode()) for key in keys]
        return self.client.post(self.path + query, json=self.body(value), headers=headers)


def _tensor(given: dict[str, Any], value: int) -> dict[str, Any]:
    shape = [max(size, 1) for size in given["shape"]]
    count = 1
    for size in shape:
        count *= size
    element: Any = {"BYTES": str(value), "BOOL": bool(value)}.get(given["datatype"], value)
    return {"name": given["name"], "datatype": given["datatype"], "shape": shape, "data": [element] * count}


@pytest.fixture(scope="session")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where the server is."""
    if given := os.environ.get("CONFORMANCE_URL"):
        yield given
        return
    from contract.serving.process import Server  # noqa: PLC0415

    home = tmp_path_factory.mktemp("server")
    server = Server(home, str(EXAMPLE), "--name", "risk", "--idempotency-store", f"sqlite://{home}/store.db")
    yield server.ready().url()
    server.stop()


@pytest.fixture(scope="session")
def asker(url: str) -> Iterator[Asker]:
    """Asks the model of the server."""
    with httpx.Client(base_url=url, timeout=30, trust_env=False) as client:
        name = os.environ.get("CONFORMANCE_MODEL") or _first_model(client)
        metadata = client.get(f"/v2/models/{name}")
        assert metadata.status_code == 200, f"{url} does not describe a model {name!r}: {metadata.text}"
        yield Asker(client, name, metadata.json()["inputs"])


def _first_model(client: httpx.Client) -> str:
    index = client.post("/v2/repository/index", json={})
    assert index.status_code == 200, "the server lists no models; give one with CONFORMANCE_MODEL"
    name: str = index.json()[0]["name"]
    return name


@pytest.fixture
def key() -> str:
    """Return a key that nobody has used."""
    return uuid.uuid4().hex

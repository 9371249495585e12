from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from contract.serving.origin import Origin
from contract.serving.process import Server, client
from contract.serving.zygote import Zygote
from unit.serving import models

EXAMPLE = Path(__file__).parents[3] / "examples" / "breast-cancer"

Serve = Callable[..., Server]


def _factory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    started: list[Server] = []

    def serve(model: Path | str | bytes, *options: str, **environment: str) -> Server:
        home = tmp_path_factory.mktemp("server")
        if isinstance(model, bytes):
            content, model = model, home / "m.onnx"
            model.write_bytes(content)
        server = Server(home, str(model), *options, **environment)
        started.append(server)
        return server

    yield serve
    for server in started:
        server.stop()


@pytest.fixture
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """Starts servers that end with the test."""
    yield from _factory(tmp_path_factory)


@pytest.fixture(scope="module")
def module_serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """Starts servers that end with the module."""
    yield from _factory(tmp_path_factory)


@pytest.fixture(scope="module")
def example(module_serve: Serve) -> Iterator[httpx.Client]:
    """A client of a server of the example model."""
    server = module_serve(EXAMPLE / "model.onnx", "--name", "risk", "--model-version", "r1", "--pod-name", "pod-7")
    yield from client(server.ready())


@pytest.fixture(scope="module")
def datatypes(module_serve: Serve) -> Iterator[httpx.Client]:
    """A client of a server of a model that gives back what it takes, for every datatype."""
    yield from client(module_serve(models.every_datatype()).ready())


@pytest.fixture
def origin() -> Iterator[Origin]:
    """A server to fetch models from."""
    with Origin(models.identity()) as server:
        yield server


@pytest.fixture(scope="session")
def zygote() -> Iterator[Zygote]:
    """Starts servers by fork."""
    one = Zygote()
    yield one
    one.stop()

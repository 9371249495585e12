"""What is measured: our server, the empty application that bounds it, and the peers."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from benchmarks import environments
from benchmarks.models import Model
from benchmarks.payloads import Form, Style
from images import compiled

HOST: Final = "127.0.0.1"
V2_PATH: Final = "/v2/models/{model}/infer"
OURS: Final = "onceserve"
EMPTY: Final = "empty uvicorn app"
BATCHING: Final = ", batching"
"""Ends the name of a server in its setting with dynamic batching."""


class Subject(Protocol):
    """A server that can be started for one model on one port."""

    @property
    def name(self) -> str:
        """Name in the tables."""

    @property
    def style(self) -> Style:
        """What its bodies look like."""

    @property
    def forms(self) -> tuple[Form, ...]:
        """Forms of tensors that are tried on it."""

    @property
    def path(self) -> str:
        """Path to POST to, in which `{model}` stands for the model's name."""

    @property
    def checked(self) -> bool:
        """Whether it answers with a model's output."""

    @property
    def environment(self) -> Mapping[str, str]:
        """Environment variables that it needs."""

    def command(self, model: Model, port: int) -> Sequence[str]:
        """Return the command that serves; raises UnservedError where it cannot be installed."""


def _as_in_the_image() -> dict[str, str]:
    return {"ONCESERVE_GRPC_PORT": "0", "PYTHONPATH": str(compiled.build())}


@dataclass(frozen=True)
class Ours:
    """`onceserve serve` as a user starts it, every feature at its default; compiled, as its image has it."""

    name: str = OURS
    options: tuple[str, ...] = ()
    style: Style = Style.V2
    forms: tuple[Form, ...] = (Form.JSON, Form.BINARY)
    path: str = V2_PATH
    checked: bool = True
    environment: Mapping[str, str] = field(default_factory=_as_in_the_image)

    def command(self, model: Model, port: int) -> Sequence[str]:
        """Return the command line."""
        program = str(Path(sys.executable).with_name("onceserve"))
        where = ["--host", HOST, "--port", str(port)]
        return [program, "serve", str(model.path), "--name", model.name, *where, *self.options]


@dataclass(frozen=True)
class Empty:
    """An ASGI application that does nothing, on the same uvicorn: the most that our server could do on it."""

    name: str = EMPTY
    style: Style = Style.V2
    forms: tuple[Form, ...] = (Form.JSON, Form.BINARY)
    path: str = V2_PATH
    checked: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)

    def command(self, model: Model, port: int) -> Sequence[str]:
        """Return the command line; it needs no model."""
        del model
        return [sys.executable, "-m", "benchmarks.apps.empty", str(port)]


@dataclass(frozen=True)
class Peer:
    """Another server: `peers/DIRECTORY/serve.py MODEL PORT [ARGUMENT]` in an environment of its own."""

    name: str
    directory: str
    style: Style = Style.PLAIN
    forms: tuple[Form, ...] = (Form.JSON,)
    path: str = "/predict"
    argument: tuple[str, ...] = ()
    usual: bool = True
    """Whether a run measures it that is neither full nor asked for it by name."""
    checked: bool = True
    environment: Mapping[str, str] = field(default_factory=dict)

    def command(self, model: Model, port: int) -> Sequence[str]:
        """Return the command line; installs the peer on first use."""
        python = environments.python(self.directory)
        script = environments.PEERS / self.directory / "serve.py"
        return [str(python), str(script), str(model.path), str(port), *self.argument]


BOTH: Final = (Form.JSON, Form.BINARY)
ONE: Final = ("one",)
BATCH: Final = ("batch",)

PEERS: Final = (
    Peer("FastAPI, def", "fastapi", argument=("def",)),
    Peer("FastAPI, async def", "fastapi", argument=("async",)),
    Peer("Mosec", "mosec", path="/inference", argument=ONE),
    Peer("Mosec" + BATCHING, "mosec", path="/inference", argument=BATCH),
    Peer("LitServe", "litserve", argument=ONE),
    Peer("LitServe" + BATCHING, "litserve", argument=BATCH, usual=False),
    Peer("MLServer", "mlserver", Style.V2, path=V2_PATH, argument=ONE),
    Peer("MLServer" + BATCHING, "mlserver", Style.V2, path=V2_PATH, argument=BATCH, usual=False),
    Peer("KServe", "kserve", Style.V2, BOTH, V2_PATH),
    Peer("BentoML", "bentoml", argument=ONE),
    Peer("BentoML" + BATCHING, "bentoml", argument=BATCH, usual=False),
    Peer("PyTriton", "pytriton", Style.V2, BOTH, V2_PATH),
    Peer("Ray Serve", "ray_serve", path="/", argument=ONE),
    Peer("Ray Serve" + BATCHING, "ray_serve", path="/", argument=BATCH, usual=False),
)

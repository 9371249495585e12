"""The model that this server serves, and how a request finds it."""

from onceserve_serving.engine.runner import Runner
from onceserve_serving.errors import NotReadyError, UnknownModelError
from onceserve_serving.lifecycle import Lifecycle
from onceserve_serving.tensors import Signature


class ServedModel:
    """One model under one name and version; it has a runner once it is loaded."""

    def __init__(self, name: str, version: str, lifecycle: Lifecycle) -> None:
        self.name = name
        self.version = version
        self.lifecycle = lifecycle
        self._runner: Runner | None = None

    def install(self, runner: Runner) -> None:
        """Serve with this runner from now on."""
        self._runner = runner

    @property
    def signature(self) -> Signature | None:
        """What the model takes and gives; None until it is loaded."""
        return None if self._runner is None else self._runner.signature

    def check(self, name: str, version: str | None) -> None:
        """Raise UnknownModelError unless this is the model meant."""
        if name != self.name:
            raise UnknownModelError(f"there is no model {name[:256]!r} here; this server serves {self.name!r}")
        if version is not None and version != self.version:
            raise UnknownModelError(f"model {name!r} has no version {version[:256]!r} here; it has {self.version!r}")

    def runner(self) -> Runner:
        """Return what runs the model, or raise NotReadyError."""
        if self._runner is None:
            raise NotReadyError(f"model {self.name!r} does not answer yet: {self.lifecycle.describe()}")
        return self._runner

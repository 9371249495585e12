"""What runs a model; the pipeline knows only the protocol here."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from onceserve_serving.tensors import Array, Signature


class Engine(Protocol):
    """A loaded model. `run` may be called from several threads at once."""

    @property
    def signature(self) -> Signature:
        """What the model takes and gives."""

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> list[Array]:
        """Return the named outputs in their order.

        Raises InvalidRequestError if the model refuses the inputs, ExecutionFailedError if it fails on them.
        """

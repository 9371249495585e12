"""The whole journey of a request."""

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from onceserve_serving.repository import Repository
from onceserve_serving.tensors import Array, InferenceRequest, Signature


class Call(NamedTuple):
    """What the edge knows of a request besides its tensors.

    `deadline` is the `time.monotonic()` by which the run must have begun; None takes the settings' timeout. `tenant` is
    the owner of the API key, empty without one. `request_id` is for logs and traces.
    """

    deadline: float | None = None
    tenant: str = ""
    request_id: str = ""


class Inference(NamedTuple):
    """What came out: the request as it was decoded and its outputs, in the order in which they were asked for."""

    model: str
    version: str
    signature: Signature
    request: InferenceRequest
    arrays: Sequence[Array]


class Pipeline:
    """Takes a request through decoding and the model; `timeout` is the seconds until a run must have begun."""

    def __init__(self, repository: Repository, *, timeout: float) -> None:
        self._repository = repository
        self._timeout = timeout

    async def infer(
        self, name: str, version: str | None, size: int, decode: Callable[[Signature], InferenceRequest], call: Call
    ) -> Inference:
        """Answer one request of `size` bytes; raises the domain's errors."""
        arrived = time.monotonic()
        model = self._repository.get(name, version)
        signature, admission, batcher = model.journey()
        deadline = arrived + self._timeout if call.deadline is None else call.deadline
        if not admission.enter_now():
            await admission.enter(size, deadline)
        try:
            admission.check_time(deadline)
            request = decode(signature)
            arrays = await batcher.run(request.inputs, request.outputs, arrived, deadline)
        finally:
            admission.leave()
        return Inference(model.name, model.version, signature, request, arrays)

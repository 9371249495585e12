"""The whole journey of a request."""

from onceserve_serving.codec import json
from onceserve_serving.served import ServedModel
from onceserve_serving.telemetry import Telemetry


class Pipeline:
    """Takes a request's body through decoding, the model and encoding."""

    def __init__(self, model: ServedModel, telemetry: Telemetry) -> None:
        self._model = model
        self._telemetry = telemetry

    async def infer(self, body: bytes) -> bytes:
        """Return the response body; raises the domain's errors."""
        runner = self._model.runner()
        request = json.decode(body, runner.signature)
        outputs, seconds = await runner.run(request.inputs, request.outputs)
        self._telemetry.executed(seconds)
        return json.encode(self._model.name, self._model.version, request, outputs, runner.signature)

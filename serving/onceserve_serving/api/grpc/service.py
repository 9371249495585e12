"""The methods of GRPCInferenceService beside ModelInfer."""

from collections.abc import Mapping
from typing import Final

from onceserve_serving import __version__
from onceserve_serving.errors import NotReadyError
from onceserve_serving.health import Health
from onceserve_serving.proto import open_inference_pb2 as messages
from onceserve_serving.repository import Repository
from onceserve_serving.served import State
from onceserve_serving.tensors import TensorSpec

NAME: Final = "inference.GRPCInferenceService"
EXTENSIONS: Final = ("model_repository",)

Metadata = messages.ModelMetadataResponse.TensorMetadata


class Service:
    """Each method takes the message of its name and raises the domain's errors."""

    def __init__(self, repository: Repository, health: Health) -> None:
        self._repository = repository
        self._health = health

    async def ServerLive(self, _: messages.ServerLiveRequest) -> messages.ServerLiveResponse:  # noqa: N802
        """Tell whether the process is alive."""
        try:
            self._health.check_live()
        except NotReadyError:
            return messages.ServerLiveResponse(live=False)
        return messages.ServerLiveResponse(live=True)

    async def ServerReady(self, _: messages.ServerReadyRequest) -> messages.ServerReadyResponse:  # noqa: N802
        """Tell whether the models answer."""
        try:
            await self._health.check_ready()
        except NotReadyError:
            return messages.ServerReadyResponse(ready=False)
        return messages.ServerReadyResponse(ready=True)

    async def ModelReady(self, asked: messages.ModelReadyRequest) -> messages.ModelReadyResponse:  # noqa: N802
        """Tell whether a model answers; raises UnknownModelError."""
        try:
            await self._health.check_model(asked.name, asked.version or None)
        except NotReadyError:
            return messages.ModelReadyResponse(ready=False)
        return messages.ModelReadyResponse(ready=True)

    async def ServerMetadata(self, _: messages.ServerMetadataRequest) -> messages.ServerMetadataResponse:  # noqa: N802
        """Tell what this server is."""
        return messages.ServerMetadataResponse(name="onceserve", version=__version__, extensions=EXTENSIONS)

    async def ModelMetadata(  # noqa: N802
        self, asked: messages.ModelMetadataRequest
    ) -> messages.ModelMetadataResponse:
        """Tell what a model takes and gives; raises UnknownModelError or NotReadyError."""
        model = self._repository.get(asked.name, asked.version or None)
        signature = model.runner().signature
        return messages.ModelMetadataResponse(
            name=model.name,
            versions=[model.version],
            platform="onnxruntime_onnx",
            inputs=_described(signature.inputs),
            outputs=_described(signature.outputs),
        )

    async def RepositoryIndex(  # noqa: N802
        self, asked: messages.RepositoryIndexRequest
    ) -> messages.RepositoryIndexResponse:
        """List the models that are or can be loaded."""
        rows = [row for row in self._repository.index() if row.state is State.READY or not asked.ready]
        models = [{"name": one.name, "version": one.version, "state": one.state, "reason": one.reason} for one in rows]
        return messages.RepositoryIndexResponse(models=models)

    async def RepositoryModelLoad(  # noqa: N802
        self, asked: messages.RepositoryModelLoadRequest
    ) -> messages.RepositoryModelLoadResponse:
        """Load a model; raises UnknownModelError, ModelUnavailableError or ModelControlDisabledError."""
        # KServe's clients have the name where Triton's have the repository's.
        name = asked.model_name or asked.repository_name
        self._repository.check_control()
        await self._repository.load(name)
        return messages.RepositoryModelLoadResponse(model_name=name, is_loaded=True)

    async def RepositoryModelUnload(  # noqa: N802
        self, asked: messages.RepositoryModelUnloadRequest
    ) -> messages.RepositoryModelUnloadResponse:
        """End a model when its requests have been answered; raises UnknownModelError or ModelControlDisabledError."""
        name = asked.model_name or asked.repository_name
        self._repository.check_control()
        await self._repository.unload(name)
        return messages.RepositoryModelUnloadResponse(model_name=name, is_unloaded=True)


def _described(specs: Mapping[str, TensorSpec]) -> list[Metadata]:
    return [Metadata(name=one.name, datatype=one.datatype, shape=one.shape) for one in specs.values()]

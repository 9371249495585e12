"""What the server answers to, by service and method."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

import grpc
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2

from onceserve_serving.api.grpc import errors
from onceserve_serving.api.grpc.health import HealthService
from onceserve_serving.api.grpc.inference import Infer
from onceserve_serving.api.grpc.service import NAME, Service
from onceserve_serving.api.problems import kind_of
from onceserve_serving.auth.gate import OPEN_RPCS, metadata_headers
from onceserve_serving.edge import Edge
from onceserve_serving.proto import open_inference_pb2

if TYPE_CHECKING:
    from onceserve_serving.api.grpc.errors import Context

METHODS: Final = open_inference_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods_by_name
HEALTH: Final = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
REFLECTION: Final = "grpc.reflection.v1alpha.ServerReflection"


class Handlers:
    """Puts the key's check and the errors' translation around every method but ModelInfer, which has its own."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge

    def all(self, service: Service, infer: Infer, health: HealthService) -> tuple[Any, ...]:
        """Return the handlers of all services, reflection among them."""
        services = {NAME: self._inference(service, infer), HEALTH: self._health(health)}
        services[REFLECTION] = {"ServerReflectionInfo": self._reflection([*services, REFLECTION])}
        served = (grpc.method_handlers_generic_handler(name, methods) for name, methods in services.items())
        return (*served, Unserved())

    def _inference(self, service: Service, infer: Infer) -> Mapping[str, Any]:
        methods = {
            name: self._unary(NAME, getattr(service, name), GetMessageClass(method.input_type))
            for name, method in METHODS.items()
            if name != "ModelInfer"
        }
        return {**methods, "ModelInfer": grpc.unary_unary_rpc_method_handler(infer.answer)}

    def _health(self, health: HealthService) -> Mapping[str, Any]:
        takes = health_pb2.HealthCheckRequest

        async def watch(request: health_pb2.HealthCheckRequest, _: "Context") -> AsyncIterator[Any]:
            async for answer in health.watch(request):
                yield answer

        return {
            "Check": self._unary(HEALTH, health.Check, takes),
            "Watch": grpc.unary_stream_rpc_method_handler(watch, takes.FromString, _bytes),
        }

    def _reflection(self, services: list[str]) -> Any:  # noqa: ANN401
        async def info(asked: AsyncIterator[bytes], context: "Context") -> AsyncIterator[bytes]:
            await self._checked(context)
            # Some 5 MB that most servers never need.
            from onceserve_serving.api.grpc import reflection  # noqa: PLC0415

            async for answer in reflection.answers(services, asked, context):
                yield answer

        return grpc.stream_stream_rpc_method_handler(info)

    def _unary(self, service: str, method: Callable[[Any], Awaitable[Any]], takes: Any) -> Any:  # noqa: ANN401
        is_open = f"/{service}/{method.__name__}" in OPEN_RPCS

        async def answer(request: Any, context: "Context") -> Any:  # noqa: ANN401
            if not is_open:
                await self._checked(context)
            try:
                return await method(request)
            except Exception as error:
                await errors.abort(context, *kind_of(error), error)

        return grpc.unary_unary_rpc_method_handler(answer, takes.FromString, _bytes)

    async def _checked(self, context: "Context") -> None:
        try:
            self._edge.tenant(metadata_headers(context.invocation_metadata()))
        except Exception as error:
            await errors.abort(context, *kind_of(error), error)


class Unserved:
    """Refuses in words whatever no other handler takes: other servers of the protocol have methods of their own."""

    def service(self, call: Any) -> Any:  # noqa: ANN401
        """Return a handler that waits for no message, so that streams are refused as well."""
        detail = f"there is no method {call.method[:256]!r} here; reflection lists those that there are"

        async def refuse(_: AsyncIterator[bytes], context: "Context") -> None:
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, detail)

        return grpc.stream_stream_rpc_method_handler(refuse)


def _bytes(message: Any) -> bytes:  # noqa: ANN401
    content: bytes = message.SerializeToString()
    return content

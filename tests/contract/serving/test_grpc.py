"""Triton's client, unchanged, on the real server."""

import queue
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnx
import onnxruntime
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from contract.serving.conftest import EXAMPLE, Serve
from contract.serving.grpc_calls import request
from contract.serving.process import Server
from unit.serving import models

TYPES = {**models.TYPES, "FP16": onnx.TensorProto.FLOAT16}
Array = np.ndarray[Any, Any]

ARRAYS: dict[str, Array] = {
    "BOOL": np.array([[True, False], [False, True]]),
    **{
        kind.upper(): np.array([[np.iinfo(kind).min, 0], [1, np.iinfo(kind).max]], kind)
        for kind in ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
    },
    "FP16": np.array([[-0.0, 65504], [np.inf, np.nan]], np.float16),
    "FP32": np.array([[-0.0, 1e-45], [-np.inf, np.nan]], np.float32),
    "FP64": np.array([[-0.0, 5e-324], [-np.inf, np.nan]], np.float64),
    "BYTES": np.array([[b"", b"a"], ["grüße".encode(), b"x" * 70_000]], object),
}
FIELDS = {
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    **{name: f"{name.lower()}_contents" for name in ("BOOL", "INT64", "UINT64", "FP32", "FP64", "BYTES")},
}


def pairs(types: Mapping[str, int]) -> bytes:
    """A model with an input and an output of the same values for each datatype."""
    return models.model(
        [onnx.helper.make_node("Identity", [f"in-{name}"], [f"out-{name}"]) for name in types],
        [models.value(f"in-{name}", kind, ["N", 2]) for name, kind in types.items()],
        [models.value(f"out-{name}", kind, ["N", 2]) for name, kind in types.items()],
    )


EVERY = pairs(TYPES)


@pytest.fixture(scope="module")
def server(module_serve: Serve) -> Server:
    return module_serve(EVERY, "--grpc-port", "0", "--model-version", "r1", "--pod-name", "pod-7").ready()


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(server.grpc_target()) as one:
        yield one


def in_the_clients_words() -> list[Any]:
    made = []
    for name, array in ARRAYS.items():
        one = triton.InferInput(f"in-{name}", array.shape, np_to_triton_dtype(array.dtype))
        made.append(one.set_data_from_numpy(array))
    return made


def directly() -> dict[str, Array]:
    """What onnxruntime itself answers, whose strings are text."""
    session = onnxruntime.InferenceSession(EVERY, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    text = np.vectorize(bytes.decode, otypes=[object])(ARRAYS["BYTES"])
    inputs = {f"in-{name}": array for name, array in (ARRAYS | {"BYTES": text}).items()}
    answers = dict(zip(names, session.run(names, inputs), strict=True))
    return answers | {"out-BYTES": np.vectorize(str.encode, otypes=[object])(answers["out-BYTES"])}


def same(given: Array | None, wanted: Array) -> bool:
    if given is None or (given.dtype, given.shape) != (wanted.dtype, wanted.shape):
        return False
    return list(given.ravel()) == list(wanted.ravel()) if given.dtype == object else given.tobytes() == wanted.tobytes()


def test_raw_tensors_of_every_datatype_are_onnxruntimes_bit_for_bit(client: triton.InferenceServerClient) -> None:
    result = client.infer("m", in_the_clients_words(), request_id="7")
    response = result.get_response()
    assert (response.id, response.model_name, response.model_version) == ("7", "m", "r1")
    for name, wanted in directly().items():
        assert same(result.as_numpy(name), wanted), name
    assert [output.name for output in response.outputs] == [f"out-{name}" for name in TYPES]


async def test_the_asyncio_client_gets_the_same(server: Server) -> None:
    async with triton_aio.InferenceServerClient(server.grpc_target()) as client:
        assert await client.is_server_live()
        assert await client.is_server_ready()
        assert await client.is_model_ready("m", "r1")
        result = await client.infer("m", in_the_clients_words())
    for name, wanted in directly().items():
        assert same(result.as_numpy(name), wanted), name


@pytest.mark.parametrize("callback", [False, True])
def test_compressed_and_asynchronous_calls(client: triton.InferenceServerClient, callback: bool) -> None:
    if not callback:
        result = client.infer("m", in_the_clients_words(), compression_algorithm="gzip")
    else:
        answers: queue.Queue[Any] = queue.Queue()
        client.async_infer("m", in_the_clients_words(), callback=lambda result, error: answers.put((result, error)))
        result, error = answers.get(timeout=20)
        assert error is None
    assert same(result.as_numpy("out-FP32"), ARRAYS["FP32"])


def test_typed_tensors_of_every_datatype(serve: Serve) -> None:
    server = serve(pairs(models.TYPES), "--grpc-port", "0").ready()
    asked = service_pb2.ModelInferRequest(model_name="m", model_version="1")
    for name in models.TYPES:
        tensor = asked.inputs.add(name=f"in-{name}", datatype=name, shape=ARRAYS[name].shape)
        getattr(tensor.contents, FIELDS[name]).extend(ARRAYS[name].ravel().tolist())
    with grpc.insecure_channel(server.grpc_target()) as channel:
        result = triton.InferResult(service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(asked))
    for name in models.TYPES:
        assert same(result.as_numpy(f"out-{name}"), ARRAYS[name]), name


def test_metadata(client: triton.InferenceServerClient) -> None:
    server, model = client.get_server_metadata(), client.get_model_metadata("m")
    assert (server.name, list(server.extensions)) == ("onceserve", ["model_repository"])
    assert (model.name, list(model.versions), model.platform) == ("m", ["r1"], "onnxruntime_onnx")
    assert [(one.name, one.datatype, list(one.shape)) for one in model.inputs] == [
        (f"in-{name}", name, [-1, 2]) for name in TYPES
    ]
    assert [one.name for one in model.outputs] == [f"out-{name}" for name in TYPES]
    index = client.get_model_repository_index()
    assert [(one.name, one.version, one.state) for one in index.models] == [("m", "r1", "READY")]


def test_outputs_are_selected_and_ordered(client: triton.InferenceServerClient) -> None:
    wanted = [triton.InferRequestedOutput(f"out-{name}") for name in ("FP64", "BOOL")]
    response = client.infer("m", in_the_clients_words(), outputs=wanted).get_response()
    assert [output.name for output in response.outputs] == ["out-FP64", "out-BOOL"]
    assert len(response.raw_output_contents) == 2


def test_the_answer_tells_the_pod_and_the_requests_id(server: Server) -> None:
    asked = request("m", "in-FP32", ARRAYS["FP32"])
    with grpc.insecure_channel(server.grpc_target()) as channel:
        call = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer
        with pytest.raises(grpc.RpcError) as refused:
            call(asked, metadata=[("x-request-id", "from-me")])
    told = dict(refused.value.trailing_metadata())
    assert (told["onceserve-pod"], told["x-request-id"]) == ("pod-7", "from-me")


def test_the_example_is_onnxruntimes_bit_for_bit(serve: Serve) -> None:
    server = serve(EXAMPLE / "model.onnx", "--name", "risk", "--grpc-port", "0").ready()
    session = onnxruntime.InferenceSession(EXAMPLE / "model.onnx", providers=["CPUExecutionProvider"])
    rows = np.random.default_rng(1).lognormal(size=(50, 30)).astype(np.float32)
    with triton.InferenceServerClient(server.grpc_target()) as client:
        for number in (1, 7, 50):
            given = triton.InferInput("X", [number, 30], "FP32").set_data_from_numpy(rows[:number])
            result = client.infer("risk", [given])
            for output, wanted in zip(session.get_outputs(), session.run(None, {"X": rows[:number]}), strict=True):
                assert same(result.as_numpy(output.name), wanted)


def test_models_are_loaded_and_unloaded(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(models.identity())
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    options = ("--repository", str(tmp_path), "--repository-mode", "explicit", "--grpc-port", "0")
    server = serve(models.identity(), *options).ready()
    given = triton.InferInput("x", [1, 3], "FP32").set_data_from_numpy(np.zeros([1, 3], np.float32))
    with triton.InferenceServerClient(server.grpc_target()) as client:
        states = {one.name: one.state for one in client.get_model_repository_index().models}
        assert states == {"m": "READY", "a": "UNLOADED", "broken": "UNLOADED"}
        client.load_model("a")
        assert client.is_model_ready("a")
        client.infer("a", [given])
        client.unload_model("a")
        with pytest.raises(InferenceServerException, match="has been unloaded"):
            client.infer("a", [given])
        with pytest.raises(InferenceServerException, match="FAILED_PRECONDITION"):
            client.load_model("broken")
        with pytest.raises(InferenceServerException, match="NOT_FOUND"):
            client.load_model("nowhere")


def test_without_grpc_nothing_of_it_is_loaded(serve: Serve) -> None:
    server = serve(models.identity()).ready()
    assert "gRPC" not in server.log()
    maps = Path(f"/proc/{server.process.pid}/maps").read_text()
    assert "onnxruntime" in maps
    assert "cygrpc" not in maps


def test_a_port_that_is_taken_is_told(serve: Serve, server: Server) -> None:
    port = server.grpc_target().rpartition(":")[2]
    late = serve(models.identity(), "--grpc-port", port)
    assert late.wait() == 2
    assert f"--grpc-port (or ONCESERVE_GRPC_PORT): cannot listen on 127.0.0.1 port {port}" in late.log()

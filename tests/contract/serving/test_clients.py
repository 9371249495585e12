"""The clients that people have, unchanged, against the real server."""

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import onnxruntime
import pytest
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from contract.serving.conftest import Serve
from contract.serving.process import Server
from onceserve_serving.tensors import DTYPES, Array
from unit.serving import models

Tensors = Mapping[str, Array]

TEXTS = sorted(DTYPES.keys() - {"FP16"})
EVERY = sorted(DTYPES)


@pytest.fixture(scope="module")
def server(module_serve: Serve) -> Server:
    return module_serve(models.every_datatype("FP16"), "--name", "every").ready()


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[Any]:
    with triton.InferenceServerClient(server.url().removeprefix("http://")) as one:
        yield one


@pytest.fixture(scope="module")
def session() -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(models.every_datatype("FP16"), providers=["CPUExecutionProvider"])


def edges(datatype: str) -> Array:
    """Values at the ends of a datatype's range."""
    if datatype == "BYTES":
        return np.array([b"", "é\0🎈".encode(), b"a" * 300], dtype=object)
    if datatype == "BOOL":
        return np.array([True, False, True])
    dtype = DTYPES[datatype]
    limits = np.finfo(dtype) if datatype.startswith("FP") else np.iinfo(dtype)
    return np.array([limits.min, limits.max, 1], dtype=dtype)


def inputs_of(tensors: Tensors, *, binary: bool) -> list[Any]:
    inputs = []
    for name, array in tensors.items():
        one = triton.InferInput(f"in-{name}", list(array.shape), name)
        one.set_data_from_numpy(array, binary_data=binary)
        inputs.append(one)
    return inputs


def outputs_of(names: list[str], *, binary: bool) -> list[Any]:
    return [triton.InferRequestedOutput(f"out-{name}", binary_data=binary) for name in names]


def truth(session: onnxruntime.InferenceSession, tensors: Tensors) -> dict[str, Array]:
    """What onnxruntime itself answers; what is not asked about is zero."""
    size = len(next(iter(tensors.values())))
    given = {f"in-{name}": np.zeros(size, dtype=DTYPES[name]) for name in EVERY}
    given["in-BYTES"] = np.full(size, "", dtype=object)
    for name, array in tensors.items():
        text = np.array([one.decode() for one in array], dtype=object) if name == "BYTES" else array
        given[f"in-{name}"] = text
    answers = dict(zip(EVERY, session.run([f"out-{name}" for name in EVERY], given), strict=True))
    return {name: answers[name] for name in tensors}


def check(result: Any, expected: Tensors) -> None:
    for name, array in expected.items():
        found = result.as_numpy(f"out-{name}")
        if name == "BYTES":
            texts = [one.decode() if isinstance(one, bytes) else one for one in found.tolist()]
            assert texts == array.tolist()
        else:
            assert found.dtype == array.dtype
            assert found.tobytes() == array.tobytes()


@pytest.mark.parametrize("binary_out", [True, False])
@pytest.mark.parametrize("binary_in", [True, False])
def test_every_datatype_is_answered_bit_for_bit(
    client: Any, session: onnxruntime.InferenceSession, binary_in: bool, binary_out: bool
) -> None:
    names = EVERY if binary_in and binary_out else TEXTS
    tensors = {name: edges(name) for name in names}
    inputs = inputs_of(tensors, binary=binary_in)
    if "FP16" not in names:
        inputs += inputs_of({"FP16": np.zeros(3, dtype=np.float16)}, binary=True)
    result = client.infer("every", inputs, outputs=outputs_of(names, binary=binary_out))
    check(result, truth(session, tensors))


def test_without_outputs_all_come_as_bytes(client: Any, session: onnxruntime.InferenceSession) -> None:
    tensors = {name: edges(name) for name in EVERY}
    result = client.infer("every", inputs_of(tensors, binary=True), request_id="q-1")
    assert all("binary_data_size" in one["parameters"] for one in result.get_response()["outputs"])
    assert result.get_response()["id"] == "q-1"
    check(result, truth(session, tensors))


@pytest.mark.parametrize("request_coding", [None, "gzip", "deflate"])
@pytest.mark.parametrize("response_coding", [None, "gzip", "deflate"])
@pytest.mark.parametrize("binary", [True, False])
def test_compressed_bodies_are_taken_and_given(
    client: Any, session: onnxruntime.InferenceSession, request_coding: Any, response_coding: Any, binary: bool
) -> None:
    tensors = {name: np.resize(edges(name), 3_000) for name in EVERY}
    result = client.infer(
        "every",
        inputs_of(tensors, binary=True),
        outputs=outputs_of(TEXTS, binary=binary),
        request_compression_algorithm=request_coding,
        response_compression_algorithm=response_coding,
    )
    check(result, truth(session, {name: tensors[name] for name in TEXTS}))


@pytest.mark.parametrize("binary", [True, False])
async def test_the_asyncio_client_is_answered_alike(
    server: Server, session: onnxruntime.InferenceSession, binary: bool
) -> None:
    tensors = {name: np.resize(edges(name), 500) for name in EVERY}
    expected = truth(session, {name: tensors[name] for name in TEXTS})
    async with triton_aio.InferenceServerClient(server.url().removeprefix("http://")) as client:
        assert await client.is_server_live()
        assert await client.is_server_ready()
        assert await client.is_model_ready("every", "1")
        assert (await client.get_server_metadata())["extensions"] == ["binary_tensor_data", "model_repository"]
        inputs = inputs_of(tensors, binary=True)
        asked = [client.infer("every", inputs, outputs=outputs_of(TEXTS, binary=binary)) for _ in range(8)]
        for result in await asyncio.gather(*asked):
            check(result, expected)


async def test_the_asyncio_client_may_send_json_alone(module_serve: Serve) -> None:
    server = module_serve(models.identity()).ready()
    tensor = triton.InferInput("x", [1, 3], "FP32")
    tensor.set_data_from_numpy(np.ones((1, 3), dtype=np.float32), binary_data=False)
    async with triton_aio.InferenceServerClient(server.url().removeprefix("http://")) as client:
        output = triton.InferRequestedOutput("y", binary_data=False)
        result = await client.infer("m", [tensor], outputs=[output])
    assert result.as_numpy("y").tolist() == [[1, 1, 1]]


def test_metadata_and_errors_are_the_clients(client: Any) -> None:
    metadata = client.get_model_metadata("every")
    assert {one["datatype"] for one in metadata["inputs"]} == set(EVERY)
    assert client.get_model_repository_index() == [{"name": "every", "version": "1", "state": "READY", "reason": ""}]
    with pytest.raises(triton.InferenceServerException, match="missing input") as caught:
        client.infer("every", inputs_of({"FP32": edges("FP32")}, binary=True))
    assert caught.value.status() == "400"
    with pytest.raises(triton.InferenceServerException, match="cannot be loaded or unloaded here"):
        client.unload_model("every")


floats = {"allow_nan": False, "allow_infinity": False}


@pytest.mark.parametrize("binary", [True, False])
@given(data=st.data(), size=st.integers(0, 5))
@settings(max_examples=20, deadline=None)
def test_any_values_are_answered_bit_for_bit(
    client: Any, session: onnxruntime.InferenceSession, binary: bool, data: Any, size: int
) -> None:
    tensors = {
        name: data.draw(arrays.arrays(DTYPES[name], size, elements=floats if name.startswith("FP") else {}))
        for name in EVERY
        if name != "BYTES"
    }
    texts = data.draw(st.lists(st.text(max_size=9), min_size=size, max_size=size))
    tensors["BYTES"] = np.array([one.encode() for one in texts], dtype=object)
    half = tensors.pop("FP16")
    inputs = inputs_of(tensors, binary=binary) + inputs_of({"FP16": half}, binary=True)
    result = client.infer("every", inputs, outputs=outputs_of(list(tensors), binary=binary))
    check(result, truth(session, tensors))

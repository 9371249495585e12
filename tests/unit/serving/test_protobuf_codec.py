"""ModelInferRequest to arrays and arrays to ModelInferResponse."""

import contextlib
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onceserve_serving.codec import protobuf
from onceserve_serving.errors import InvalidRequestError
from onceserve_serving.proto.open_inference_pb2 import InferTensorContents, ModelInferRequest, ModelInferResponse
from onceserve_serving.tensors import DTYPES, InferenceRequest, Signature, TensorSpec

VALUES: dict[str, list[Any]] = {
    "BOOL": [True, False],
    "INT8": [-128, 127],
    "INT16": [-(2**15), 2**15 - 1],
    "INT32": [-(2**31), 2**31 - 1],
    "INT64": [-(2**63), 2**63 - 1],
    "UINT8": [0, 255],
    "UINT16": [0, 2**16 - 1],
    "UINT32": [0, 2**32 - 1],
    "UINT64": [0, 2**64 - 1],
    "FP16": [-0.0, float("nan")],
    "FP32": [float("-inf"), float("nan")],
    "FP64": [5e-324, float("nan")],
    "BYTES": [b"", b"\xff\x00"],
}
TYPED = {name: values for name, values in VALUES.items() if name != "FP16"}


def signature(*specs: TensorSpec) -> Signature:
    return Signature({one.name: one for one in specs}, {one.name: one for one in specs})


def of(datatype: str, *shape: int) -> Signature:
    return signature(TensorSpec("x", datatype, shape or (-1,)))


def array(datatype: str) -> np.ndarray[Any, Any]:
    return np.array(VALUES[datatype], dtype=DTYPES[datatype])


def wire(datatype: str, values: list[Any]) -> bytes:
    if datatype == "BYTES":
        return b"".join(struct.pack("<I", len(one)) + one for one in values)
    return np.array(values, dtype=DTYPES[datatype]).tobytes()


def message(datatype: str = "FP32", shape: Any = (2,), contents: Any = None, raw: Any = (), **more: Any) -> Any:
    tensor = ModelInferRequest.InferInputTensor(name="x", datatype=datatype, shape=shape, contents=contents)
    return ModelInferRequest(model_name="m", inputs=[tensor], raw_input_contents=raw, **more)


def same(left: np.ndarray[Any, Any], right: np.ndarray[Any, Any]) -> bool:
    if left.dtype == object:
        return left.shape == right.shape and list(left.ravel()) == list(right.ravel())
    return left.dtype == right.dtype and left.shape == right.shape and left.tobytes() == right.tobytes()


@pytest.mark.parametrize("datatype", TYPED)
@pytest.mark.parametrize("shape", [(2,), (1, 2, 1)])
def test_typed_contents_become_arrays(datatype: str, shape: tuple[int, ...]) -> None:
    contents = InferTensorContents(**{protobuf.FIELDS[datatype]: VALUES[datatype]})
    given = message(datatype, shape, contents)
    decoded = protobuf.decode(given, of(datatype, *(-1 for _ in shape)))
    assert same(decoded.inputs["x"], array(datatype).reshape(shape))


@pytest.mark.parametrize("datatype", VALUES)
def test_raw_contents_become_arrays(datatype: str) -> None:
    decoded = protobuf.decode(message(datatype, raw=[wire(datatype, VALUES[datatype])]), of(datatype))
    assert same(decoded.inputs["x"], array(datatype))


@pytest.mark.parametrize("datatype", VALUES)
def test_arrays_become_raw_contents(datatype: str) -> None:
    request = InferenceRequest("id", {}, ("x",))
    answer = protobuf.encode("m", "1", request, [array(datatype).reshape(2, 1)], of(datatype, -1, 1))
    response = ModelInferResponse.FromString(answer)
    assert (response.model_name, response.model_version, response.id) == ("m", "1", "id")
    output = response.outputs[0]
    assert (output.name, output.datatype, list(output.shape)) == ("x", datatype, [2, 1])
    assert list(response.raw_output_contents) == [wire(datatype, VALUES[datatype])]


@pytest.mark.parametrize("size", [0, 1, 31, 32, 4096, 600_000])
def test_every_size_goes_both_ways(size: int) -> None:
    values = np.arange(size, dtype=np.float32)
    typed = protobuf.decode(message(shape=[size], contents=InferTensorContents(fp32_contents=values)), of("FP32"))
    assert same(typed.inputs["x"], values)
    answer = protobuf.encode("m", "1", InferenceRequest(None, {}, ("x",)), [values], of("FP32"))
    assert ModelInferResponse.FromString(answer).raw_output_contents[0] == values.tobytes()


def test_what_a_later_protocol_adds_does_not_shift_elements() -> None:
    contents = InferTensorContents(fp32_contents=[1, 2]).SerializeToString() + b"\xfa\x01\x02hi"
    decoded = protobuf.decode(message(contents=InferTensorContents.FromString(contents)), of("FP32"))
    assert decoded.inputs["x"].tolist() == [1, 2]


def test_outputs_are_selected_and_ordered_and_the_id_comes_back() -> None:
    two = Signature({}, {name: TensorSpec(name, "FP32", (1,)) for name in ("a", "b")})
    assert protobuf.decode(ModelInferRequest(), two) == InferenceRequest(None, {}, ("a", "b"))
    wanted = ModelInferRequest(id="7", outputs=[{"name": "b"}, {"name": "a"}])
    decoded = protobuf.decode(wanted, two)
    assert (decoded.id, decoded.outputs) == ("7", ("b", "a"))
    arrays = [np.array([number], np.float32) for number in (2, 1)]
    response = ModelInferResponse.FromString(protobuf.encode("m", "1", decoded, arrays, two))
    assert [output.name for output in response.outputs] == ["b", "a"]
    assert [np.frombuffer(one, np.float32)[0] for one in response.raw_output_contents] == [2, 1]


def test_parameters_are_tolerated() -> None:
    given = message(raw=[bytes(8)])
    given.parameters["priority"].uint64_param = 1
    given.inputs[0].parameters["content_type"].string_param = "np"
    given.outputs.add(name="x").parameters["classification"].int64_param = 3
    assert protobuf.decode(given, of("FP32")).outputs == ("x",)


def shared_memory(role: str) -> Any:
    given = message(raw=[bytes(8)], outputs=[{"name": "x"}])
    getattr(given, role)[0].parameters["shared_memory_region"].string_param = "region"
    return given


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (message("INT64", contents={"int64_contents": [1, 2]}), "input 'x': datatype 'INT64' given, FP32 expected"),
        (message(shape=[3], contents={"fp32_contents": [1, 2]}), "takes 3 elements, 2 are given"),
        (message(shape=[3], raw=[bytes(8)]), "takes 12 bytes, 8 are given"),
        (message(shape=[1, 2], raw=[bytes(8)]), "shape [1, 2] given, [-1] expected"),
        (message(shape=[-1], raw=[bytes(8)]), "'shape' must be a list of integers from 0"),
        (message(raw=[bytes(8)], contents={"fp32_contents": [1, 2]}), "both 'contents' and 'raw_input_contents'"),
        (message(raw=[bytes(8), b""]), "'raw_input_contents' has 2 entries for 1 inputs"),
        (message(contents={"fp64_contents": [1, 2]}), "FP32 goes in 'fp32_contents', given is ['fp64_contents']"),
        (message(), "takes 2 elements, 0 are given"),
        (message(outputs=[{"name": "z"}], raw=[bytes(8)]), "unknown output 'z'"),
        (message(outputs=[{"name": "x"}] * 2, raw=[bytes(8)]), "names an output twice"),
        (ModelInferRequest(), "missing input 'x' (FP32 [-1])"),
        (ModelInferRequest(inputs=[{"name": "z"}]), "unknown input 'z'; the model has 'x' (FP32 [-1])"),
        (shared_memory("inputs"), "input 'x' is in shared memory, which is not served"),
        (shared_memory("outputs"), "output 'x' is in shared memory, which is not served"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(given: Any, words: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        protobuf.decode(given, of("FP32"))
    assert words in str(refused.value)


@pytest.mark.parametrize(("datatype", "value"), [("INT8", 128), ("INT16", -(2**15) - 1), ("UINT8", 256)])
def test_a_number_outside_the_datatype_is_refused(datatype: str, value: int) -> None:
    contents: Any = {protobuf.FIELDS[datatype]: [value]}
    with pytest.raises(InvalidRequestError, match=f"'x': 'contents' holds a number outside {datatype}"):
        protobuf.decode(message(datatype, [1], contents), of(datatype))


def test_fp16_has_no_typed_form() -> None:
    with pytest.raises(InvalidRequestError, match="'x': FP16 has no typed form"):
        protobuf.decode(message("FP16", [0], InferTensorContents()), of("FP16"))


def test_an_input_given_twice_is_refused() -> None:
    given = message(raw=[bytes(8), bytes(8)])
    given.inputs.append(given.inputs[0])
    with pytest.raises(InvalidRequestError, match="input 'x' is given twice"):
        protobuf.decode(given, of("FP32"))


DATATYPES = [*VALUES, "", "FP8"]
numbers = st.lists(st.integers(-3, 300), max_size=4)


@given(data=st.data())
def test_no_message_is_answered_with_anything_but_words(data: st.DataObject) -> None:
    tensor = {
        "name": data.draw(st.sampled_from(["x", "y", ""])),
        "datatype": data.draw(st.sampled_from(DATATYPES)),
        "shape": data.draw(st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(0, 3), max_size=40)),
        "contents": data.draw(st.none() | st.dictionaries(st.sampled_from(["fp32_contents", "int_contents"]), numbers)),
    }
    raw = data.draw(st.lists(st.binary(max_size=24), max_size=2))
    model = of(data.draw(st.sampled_from(list(VALUES))))
    with contextlib.suppress(InvalidRequestError):
        decoded = protobuf.decode(ModelInferRequest(inputs=[tensor], raw_input_contents=raw), model)
        assert decoded.inputs["x"].dtype == DTYPES[model.inputs["x"].datatype]


@given(data=st.binary(max_size=200))
def test_no_bytes_are_answered_with_anything_but_words(data: bytes) -> None:
    with contextlib.suppress(InvalidRequestError):
        protobuf.decode(protobuf.parse(data), of("FP32"))


@pytest.mark.parametrize("data", [b"\xff", b"\x0a\x02\xff\xfe", b"\x0a\x7fm"])
def test_what_is_no_message_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidRequestError, match="not a ModelInferRequest"):
        protobuf.parse(data)

"""Requests for a model in the forms that servers take, and their answers read back; pure."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import numpy as np
import orjson

from benchmarks.errors import UnservedError
from benchmarks.models import INPUT, OUTPUT, Model

HEADER_LENGTH: Final = "Inference-Header-Content-Length"


class Form(StrEnum):
    """How tensors travel."""

    JSON = "json"
    BINARY = "binary"


class Style(StrEnum):
    """What the body looks like: the Open Inference Protocol, or `{"x": [[…]]}` for who has no protocol."""

    V2 = "v2"
    PLAIN = "plain"


@dataclass(frozen=True)
class Payload:
    """The body of a POST and its headers."""

    body: bytes
    headers: Mapping[str, str]


@dataclass(frozen=True)
class Reply:
    """An answer as it came; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def request(model: Model, style: Style, form: Form) -> Payload:
    """Return the request for one row."""
    return WRITERS[style, form](model)


def check(model: Model, reply: Reply, style: Style) -> None:
    """Raise UnservedError unless the answer is the one that onnxruntime gives."""
    if reply.status != 200:  # noqa: PLR2004
        raise UnservedError(f"answers {reply.status}: {reply.body[:300].decode(errors='replace')}")
    try:
        answer = READERS[style](reply)
    except (ValueError, LookupError, TypeError, StopIteration) as error:
        raise UnservedError(f"answers what cannot be read ({error!r}): {reply.body[:300]!r}") from error
    if not model.agrees(answer):
        raise UnservedError(f"answers wrongly: {answer!r:.300}")


def _v2_json(model: Model) -> Payload:
    tensor = _tensor(model) | {"data": model.value.reshape(-1)}
    return Payload(_dumps({"inputs": [tensor]}), {"Content-Type": "application/json"})


def _v2_binary(model: Model) -> Payload:
    data = model.value.astype("<f4").tobytes()
    tensor = _tensor(model) | {"parameters": {"binary_data_size": len(data)}}
    header = _dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}})
    headers = {"Content-Type": "application/octet-stream", HEADER_LENGTH: str(len(header))}
    return Payload(header + data, headers)


def _plain_json(model: Model) -> Payload:
    return Payload(_dumps({INPUT: model.value}), {"Content-Type": "application/json"})


WRITERS: Final[Mapping[tuple[Style, Form], Callable[[Model], Payload]]] = {
    (Style.V2, Form.JSON): _v2_json,
    (Style.V2, Form.BINARY): _v2_binary,
    (Style.PLAIN, Form.JSON): _plain_json,
}


def _tensor(model: Model) -> dict[str, Any]:
    return {"name": INPUT, "shape": list(model.value.shape), "datatype": "FP32"}


def _dumps(value: object) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)


def _read_v2(reply: Reply) -> object:
    length = reply.headers.get(HEADER_LENGTH.lower())
    header = json.loads(reply.body[: int(length)] if length else reply.body)
    tensor = next(one for one in header["outputs"] if one["name"] == OUTPUT)
    if length and "data" not in tensor:
        return np.frombuffer(reply.body[int(length) :], "<f4").reshape(tensor["shape"])
    return np.asarray(tensor["data"], np.float32).reshape(tensor["shape"])


def _read_plain(reply: Reply) -> object:
    answer: object = json.loads(reply.body)
    return answer[OUTPUT] if isinstance(answer, dict) else answer


READERS: Final[Mapping[Style, Callable[[Reply], object]]] = {Style.V2: _read_v2, Style.PLAIN: _read_plain}

"""The OpenAPI document: the framework's of the management routes, and the infer route of each model with an example."""

from collections.abc import Iterable, Mapping
from itertools import chain
from typing import Any, Final, TypeAlias
from urllib.parse import quote

import orjson

from onceserve_serving.api import examples
from onceserve_serving.api.problems import CONTENT_TYPE, KINDS, TYPE, Kind, UnknownPathError
from onceserve_serving.auth.gate import OPEN_PATHS
from onceserve_serving.codec import json
from onceserve_serving.errors import ModelControlDisabledError, ModelUnavailableError, UnauthenticatedError
from onceserve_serving.served import ServedModel, State
from onceserve_serving.tensors import Signature, TensorSpec

Document: TypeAlias = dict[str, Any]

OCTETS: Final = "application/octet-stream"
HEADER_LENGTH: Final = "Inference-Header-Content-Length"

BINARY: Final[Document] = {
    "type": "string",
    "format": "binary",
    "description": f"JSON of {HEADER_LENGTH} bytes, and the tensors that have a `binary_data_size` behind it.",
}

DESCRIPTION: Final = """Also at `{path}/versions/{version}/infer`.

Where SERVER is this server's address, this asks it:

```
{command}
```"""

PROBLEM: Final[Document] = {
    "type": "object",
    "description": "An error (RFC 9457); `error` repeats `detail` for clients of the Open Inference Protocol.",
    "required": ["type", "title", "status", "detail", "error"],
    "properties": {
        "type": {"type": "string", "format": "uri"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "error": {"type": "string"},
    },
}

ELEMENTS: Final[Mapping[str, Document]] = {
    "BOOL": {"type": "boolean"},
    "BYTES": {"type": "string"},
    "FP32": {"type": "number"},
    "FP64": {"type": "number"},
}

NOT_OF_INFER: Final = frozenset(
    {ModelControlDisabledError, ModelUnavailableError, UnauthenticatedError, UnknownPathError}
)

INFER_PROBLEMS: Final = [kind for error, kind in KINDS.items() if error not in NOT_OF_INFER]

SCHEMES: Final[Document] = {
    "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    "bearer": {"type": "http", "scheme": "bearer", "description": "The same API key."},
}

PARAMETERS: Final[list[Document]] = [
    {
        "name": "X-Request-Timeout",
        "in": "header",
        "description": "Time within which the run must begin, else 504: seconds as 1.5 or 1.5s, or as 500ms.",
        "schema": {"type": "string", "pattern": r"^[0-9]{1,9}(\.[0-9]{1,9})?(ms|s)?$"},
        "example": "5s",
    },
    {
        "name": "Idempotency-Key",
        "in": "header",
        "description": "Retries with the same key get the same answer, where the server keeps answers; else 400.",
        "schema": {"type": "string", "pattern": "^[!#-~][!-~]{0,254}$"},
    },
    {
        "name": "X-Request-Id",
        "in": "header",
        "description": "Names the request in logs and traces; comes back with the answer.",
        "schema": {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,128}$"},
    },
]


def problems(*errors: type[Exception]) -> dict[int | str, Document]:
    """Return the responses of a route for these errors."""
    return responses(KINDS[error] for error in errors)


def responses(kinds: Iterable[Kind]) -> dict[int | str, Document]:
    """Return the responses of these kinds, by their status."""
    by_status: dict[int | str, list[Kind]] = {}
    for kind in kinds:
        by_status.setdefault(kind.status.value, []).append(kind)
    return {status: _problem(of_status) for status, of_status in by_status.items()}


def complete(document: Document, models: Iterable[ServedModel], *, keys: bool) -> Document:
    """Return the framework's document with what it cannot know.

    That is problems, the infer route of each loaded model, and whether callers need API keys.
    """
    schemas = {**document.get("components", {}).get("schemas", {}), "Problem": PROBLEM}
    for operation in chain.from_iterable(path.values() for path in document["paths"].values()):
        _forget_validation(operation["responses"])
    loaded = [model for model in models if model.state is State.READY]
    paths = {f"/v2/models/{quote(model.name)}/infer": {"post": _infer(model, keys=keys)} for model in loaded}
    schemas = {name: schema for name, schema in schemas.items() if "ValidationError" not in name}
    whole = {**document, "paths": {**paths, **document["paths"]}, "components": {"schemas": schemas}}
    return _with_keys(whole) if keys else whole


def _forget_validation(answers: Document) -> None:
    # All parameters are text, so that no route has anything for the framework to refuse.
    if CONTENT_TYPE not in answers.get("422", {}).get("content", {}):
        answers.pop("422", None)


def _with_keys(document: Document) -> Document:
    paths = {
        path: {method: _with_key(path, operation) for method, operation in methods.items()}
        for path, methods in document["paths"].items()
    }
    components = {**document["components"], "securitySchemes": SCHEMES}
    return {**document, "paths": paths, "components": components, "security": [{name: []} for name in SCHEMES]}


def _with_key(path: str, operation: Document) -> Document:
    if path in OPEN_PATHS:
        return {**operation, "security": []}
    refusal = {str(status): answer for status, answer in problems(UnauthenticatedError).items()}
    return {**operation, "responses": {**operation["responses"], **refusal}}


def _problem(kinds: list[Kind]) -> Document:
    example = {
        "type": f"{TYPE}{kinds[0].slug}",
        "title": kinds[0].title,
        "status": kinds[0].status.value,
        "detail": "what is wrong, in words",
        "error": "what is wrong, in words",
    }
    content = {"schema": {"$ref": "#/components/schemas/Problem"}, "example": example}
    return {"description": "; ".join(kind.title for kind in kinds), "content": {CONTENT_TYPE: content}}


def _infer(model: ServedModel, *, keys: bool) -> Document:
    signature = model.runner().signature
    path = f"/v2/models/{quote(model.name)}"
    command = examples.command(model.runner(), f"$SERVER{path}", keys=keys)
    return {
        "tags": [f"ask {model.name}"],
        "summary": f"Ask {model.name}",
        "operationId": f"infer-{model.name}",
        "description": DESCRIPTION.format(path=path, version=quote(model.version), command=command),
        "parameters": PARAMETERS,
        "requestBody": {"required": True, "content": _content(model, signature)},
        "responses": {
            "200": {
                "description": "The outputs asked for",
                "content": {"application/json": {"schema": _answer(signature)}, OCTETS: {"schema": BINARY}},
            },
            **{str(status): problem for status, problem in responses(INFER_PROBLEMS).items()},
        },
    }


def _content(model: ServedModel, signature: Signature) -> Document:
    example = examples.of(model.runner())
    bodies: Document = {OCTETS: {"schema": BINARY}}
    if example.zeros:
        bodies[OCTETS]["example"] = f"{orjson.dumps(example.document).decode()} and {example.zeros} bytes"
    if all(spec.datatype in json.ELEMENTS for spec in signature.inputs.values()):
        bodies = {"application/json": {"schema": _request(signature)}, **bodies}
    if not example.zeros:
        bodies["application/json"]["example"] = example.document
    return bodies


def _request(signature: Signature) -> Document:
    return {
        "type": "object",
        "required": ["inputs"],
        "properties": {
            "id": {"type": "string", "description": "Comes back with the answer."},
            "inputs": _each([_tensor(spec) for spec in signature.inputs.values()]),
            "outputs": {
                "type": "array",
                "description": "Selects and orders; all of them without it.",
                "items": {"type": "object", "required": ["name"], "properties": {"name": _one_of(signature.outputs)}},
            },
        },
    }


def _answer(signature: Signature) -> Document:
    texts = [_tensor(spec) for spec in signature.outputs.values() if spec.datatype in json.ELEMENTS]
    return {
        "type": "object",
        "required": ["model_name", "model_version", "outputs"],
        "properties": {
            "model_name": {"type": "string"},
            "model_version": {"type": "string"},
            "id": {"type": "string"},
            "outputs": {"type": "array", "items": {"anyOf": texts}} if texts else {"type": "array"},
        },
    }


def _each(tensors: list[Document]) -> Document:
    return {"type": "array", "items": {"anyOf": tensors}, "minItems": len(tensors), "maxItems": len(tensors)}


def _one_of(specs: Mapping[str, TensorSpec]) -> Document:
    return {"type": "string", "enum": list(specs)}


def _tensor(spec: TensorSpec) -> Document:
    elements = ELEMENTS.get(spec.datatype, {"type": "integer"})
    dimensions: Document = {"type": "array", "items": {"type": "integer", "minimum": 0}}
    if spec.shape:
        dimensions |= {"minItems": len(spec.shape), "maxItems": len(spec.shape), "example": _sizes(spec)}
    return {
        "type": "object",
        "title": f"{spec.name}: {spec.datatype} {list(spec.shape)}",
        "required": ["name", "datatype", "shape", "data"],
        "properties": {
            "name": {"type": "string", "enum": [spec.name]},
            "datatype": {"type": "string", "enum": [spec.datatype]},
            "shape": dimensions,
            "data": {"type": "array", "description": "Row by row, flat or nested.", "items": elements},
        },
    }


def _sizes(spec: TensorSpec) -> list[int]:
    return [max(size, 1) for size in spec.shape]

"""From the types to the CustomResourceDefinition, in the structural form that the API server asks for."""

from typing import Any

from onceserve_operator.api.v1alpha1 import (
    GROUP,
    KIND,
    PLURAL,
    SHORT_NAME,
    SINGULAR,
    VERSION,
    ModelDeployment,
)

Schema = dict[str, Any]

CRD_NAME = f"{PLURAL}.{GROUP}"

_RULES = "x-kubernetes-validations"
_NULL = {"type": "null"}
# The API server prunes unknown fields where nothing is said about them, and must not be told twice.
_CLOSED = ("additionalProperties", False)
_NO_DEFAULT = ("default", None)

_OBJECT_FIELDS: Schema = {
    "apiVersion": {"description": "Version of the API that this object is written in.", "type": "string"},
    "kind": {"description": f"Always {KIND}.", "type": "string"},
    "metadata": {"type": "object"},
}

_READY = '.status.conditions[?(@.type=="Ready")]'
_WIDE_ONLY = 1
_COLUMNS = (
    ("Ready", "string", f"{_READY}.status", 0),
    ("Desired", "integer", ".spec.replicas", 0),
    ("Available", "integer", ".status.readyReplicas", 0),
    ("Revision", "string", ".status.stableRevision", 0),
    ("Rollout", "string", ".status.rollout.phase", 0),
    ("URL", "string", ".status.url", 0),
    ("Age", "date", ".metadata.creationTimestamp", 0),
    ("Reason", "string", f"{_READY}.reason", _WIDE_ONLY),
    ("Message", "string", f"{_READY}.message", _WIDE_ONLY),
)


def custom_resource_definition() -> Schema:
    """Return the whole CustomResourceDefinition."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": CRD_NAME},
        "spec": {
            "group": GROUP,
            "names": {
                "kind": KIND,
                "listKind": f"{KIND}List",
                "plural": PLURAL,
                "singular": SINGULAR,
                "shortNames": [SHORT_NAME],
                "categories": ["all"],
            },
            "scope": "Namespaced",
            "versions": [_version()],
        },
    }


def _version() -> Schema:
    return {
        "name": VERSION,
        "served": True,
        "storage": True,
        "subresources": {
            "status": {},
            "scale": {
                "specReplicasPath": ".spec.replicas",
                "statusReplicasPath": ".status.replicas",
                "labelSelectorPath": ".status.selector",
            },
        },
        "additionalPrinterColumns": [_column(*column) for column in _COLUMNS],
        "schema": {"openAPIV3Schema": openapi_schema()},
    }


def _column(name: str, kind: str, path: str, priority: int) -> Schema:
    column: Schema = {"name": name, "type": kind, "jsonPath": path}
    return {**column, "priority": priority} if priority else column


def openapi_schema() -> Schema:
    """Return the structural schema of a ModelDeployment."""
    given = ModelDeployment.model_json_schema(by_alias=True)
    root = structural(given, given["$defs"])
    return {**root, "properties": _OBJECT_FIELDS | root["properties"]}


def structural(given: Schema, definitions: Schema) -> Schema:
    """Return a JSON Schema as pydantic writes it in the form that the API server takes."""
    schema = {key: value for key, value in _inlined(given, definitions).items() if _is_kept(key, value)}
    if "description" in schema:
        schema["description"] = " ".join(schema["description"].split())
    if schema.get("type") == "integer":
        schema.setdefault("format", "int32")
    for key in {"items", "additionalProperties"} & schema.keys():
        schema[key] = structural(schema[key], definitions)
    if "properties" in schema:
        schema["properties"] = _properties(schema, definitions)
    return dict(sorted(schema.items()))


def _is_kept(key: str, value: Any) -> bool:  # noqa: ANN401
    return key not in {"$defs", "title"} and (key, value) not in (_CLOSED, _NO_DEFAULT)


def _inlined(given: Schema, definitions: Schema) -> Schema:
    """Replace a reference, or a choice between something and null, by what it stands for."""
    schema = dict(given)
    if "$ref" in schema:
        name = schema.pop("$ref").rpartition("/")[2]
        return _inlined(_overlaid(definitions[name], schema), definitions)
    if _is_nullable(schema):
        [choice] = [choice for choice in schema.pop("anyOf") if choice != _NULL]
        # The null that pydantic gives as default must not hide the default that the type itself may have.
        return _inlined(_overlaid(choice, {k: v for k, v in schema.items() if (k, v) != _NO_DEFAULT}), definitions)
    return schema


def _is_nullable(schema: Schema) -> bool:
    return _NULL in schema.get("anyOf", ())


def _overlaid(below: Schema, above: Schema) -> Schema:
    rules = [*below.get(_RULES, ()), *above.get(_RULES, ())]
    return {**below, **above, **({_RULES: rules} if rules else {})}


def _properties(parent: Schema, definitions: Schema) -> Schema:
    required = parent.get("required", ())
    return {name: _property(given, definitions, name in required) for name, given in parent["properties"].items()}


def _property(given: Schema, definitions: Schema, required: bool) -> Schema:  # noqa: FBT001
    schema = structural(given, definitions)
    # The API server fills in what stands inside an object only where the object itself is there.
    if not required and not _is_nullable(given) and _holds_default(schema):
        return dict(sorted({**schema, "default": {}}.items()))
    return schema


def _holds_default(schema: Schema) -> bool:
    return any("default" in inner for inner in schema.get("properties", {}).values())

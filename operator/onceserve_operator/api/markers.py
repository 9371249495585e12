"""Annotations with which the types say what JSON Schema cannot: CEL rules, map-lists, Kubernetes' scalar forms."""

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema


@dataclass(frozen=True, slots=True)
class Rule:
    """A CEL rule that the API server checks; `message` is what a person reads when it fails."""

    rule: str
    message: str
    optional_old_self: bool = False
    """The rule speaks of `oldSelf` and holds at creation too, where there is none."""

    def as_dict(self) -> dict[str, Any]:
        """Return the rule as an element of `x-kubernetes-validations`."""
        optional = {"optionalOldSelf": True} if self.optional_old_self else {}
        return {"rule": self.rule, "message": self.message, **optional}

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        schema = handler(core)
        schema.setdefault("x-kubernetes-validations", []).append(self.as_dict())
        return schema


def rules(*given: Rule) -> dict[str, Any]:
    """Return the schema extra of a type whose fields are bound to each other by rules."""
    return {"x-kubernetes-validations": [rule.as_dict() for rule in given]}


@dataclass(frozen=True, slots=True)
class ListMapKey:
    """A list of objects that server-side apply merges by this key, instead of replacing the list."""

    key: str

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return handler(core) | {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [self.key]}


# The form that the Gateway API settled on. It cannot overflow, so no rule about it can fail to evaluate.
DURATION_PATTERN = r"^([0-9]{1,5}(h|m|s|ms)){1,4}$"

Duration = Annotated[str, Field(max_length=32, pattern=DURATION_PATTERN)]
"""A span of time as Kubernetes writes it: `500ms`, `30s`, `1h30m`."""

PositiveDuration = Annotated[Duration, Rule("self.matches('[1-9]')", "must be longer than 0s")]


def at_least(limit: str) -> Rule:
    """Return the rule that a duration is no shorter than this."""
    return Rule(f"duration(self) >= duration('{limit}')", f"must be at least {limit}")


def at_most(limit: str) -> Rule:
    """Return the rule that a duration is no longer than this."""
    return Rule(f"duration(self) <= duration('{limit}')", f"must be at most {limit}")


Int64 = Annotated[int, Field(json_schema_extra={"format": "int64"})]
"""A number that may pass 32 bits, such as a generation."""

# What the API server asks of the same fields of pods, Secrets and ConfigMaps.
SUBDOMAIN_PATTERN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
DATA_KEY_PATTERN = r"^[-._a-zA-Z0-9]+$"
LABEL_VALUE_PATTERN = r"^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$"

HostName = Annotated[str, Field(min_length=1, max_length=253, pattern=r"^(\*\.)?" + SUBDOMAIN_PATTERN[1:])]
"""A host name, which may begin with `*.`."""
ObjectName = Annotated[str, Field(min_length=1, max_length=253, pattern=SUBDOMAIN_PATTERN)]
"""Name of an object of Kubernetes."""
LabelValue = Annotated[str, Field(max_length=63, pattern=LABEL_VALUE_PATTERN)]
"""Value of a label or of a taint."""


@dataclass(frozen=True, slots=True)
class IntOrStringSchema:
    """A number or a string of this pattern, which structural schemas cannot say by `anyOf`."""

    pattern: str

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {
            "x-kubernetes-int-or-string": True,
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "pattern": self.pattern,
        }


QUANTITY_PATTERN = r"^\+?([0-9]+(\.[0-9]*)?|\.[0-9]+)([KMGTPE]i|[numkMGTPE]|[eE][-+]?[0-9]{1,2})?$"
PERCENTAGE_PATTERN = r"^([0-9]|[1-9][0-9]|100)%$"

Quantity = Annotated[str, BeforeValidator(str), IntOrStringSchema(QUANTITY_PATTERN)]
"""An amount as Kubernetes writes it: `2`, `500m`, `1.5Gi`."""

IntOrPercentage = Annotated[
    int | str,
    IntOrStringSchema(PERCENTAGE_PATTERN),
    Rule("type(self) == string || self >= 0", "must be a number of at least 0, or a percentage such as 25%"),
]
"""A number, or a percentage such as `25%`."""

Decimal = Annotated[str, Field(max_length=32, pattern=r"^[0-9]+(\.[0-9]+)?(e-?[0-9]{1,3})?$")]
"""A number as text, since floating-point numbers are not read alike by everyone: `0.01`, `1e-5`."""

Timestamp = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
"""A moment as Kubernetes writes it (RFC 3339)."""

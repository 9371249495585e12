"""Every constraint of the definition on a real API server, each broken in an object that is right otherwise."""

import copy
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from support.api_server import Api
from support.modeldeployments import (
    COMPLETE,
    COMPLETE_BLUE_GREEN,
    SPEC_SCHEMA,
    Object,
    collection,
    deployment,
    fields_of,
)

pytestmark = pytest.mark.usefixtures("definition")

Steps = tuple[str | int, ...]


@dataclass(frozen=True)
class Violation:
    """One constraint of the schema, and how to break it."""

    path: Steps
    keyword: str
    limit: Any
    whole: Object
    """The object that is right."""

    @property
    def field(self) -> str:
        """The field as the API server names it."""
        return re.sub(r"\.(\d+)", r"[\1]", ".".join(map(str, ("spec", *self.path))))

    def __str__(self) -> str:
        return f"{self.field}: {self.keyword}"


BROKEN: dict[str, Callable[[Any, Any], Any]] = {
    "minimum": lambda _, limit: limit - 1,
    "maximum": lambda _, limit: limit + 1,
    "minLength": lambda _, limit: "a" * (limit - 1),
    "maxLength": lambda _, limit: "a" * (limit + 1),
    "pattern": lambda _value, _limit: "not a match",
    "enum": lambda _value, _limit: "Nonsense",
    "maxItems": lambda value, limit: [value[0]] * (limit + 1),
    "maxProperties": lambda value, limit: {f"key-{number}": next(iter(value.values())) for number in range(limit + 1)},
}
WORDS = {
    "minimum": "should be greater than or equal to {}",
    "maximum": "should be less than or equal to {}",
    "minLength": "should be at least {} chars long",
    "maxLength": "may not be more than {} bytes",
    "pattern": "should match '{}'",
    "enum": "supported values: {}",
    "maxItems": "must have at most {} items",
    "maxProperties": "must have at most {} items",
    "required": "Required value",
}


def violations(schema: Object, value: Any, whole: Object, path: Steps = ()) -> Iterator[Violation]:
    yield from (Violation(path, keyword, schema[keyword], whole) for keyword in BROKEN.keys() & schema.keys())
    for name in schema.get("required", ()):
        if name in value:
            yield Violation((*path, name), "required", None, whole)
    for name, inner in schema.get("properties", {}).items():
        if name in value:
            yield from violations(inner, value[name], whole, (*path, name))
    for index, item in enumerate(value if "items" in schema else ()):
        yield from violations(schema["items"], item, whole, (*path, index))
    for name in value if "additionalProperties" in schema else ():
        yield from violations(schema["additionalProperties"], value[name], whole, (*path, name))


WHOLE = (COMPLETE_BLUE_GREEN, COMPLETE)
FOUND = {str(each): each for whole in WHOLE for each in violations(SPEC_SCHEMA, whole, whole)}
VIOLATIONS = [FOUND[name] for name in sorted(FOUND)]


def broken(violation: Violation) -> Object:
    spec = copy.deepcopy(violation.whole)
    parent: Any = spec
    for step in violation.path[:-1]:
        parent = parent[step]
    last = violation.path[-1]
    if violation.keyword == "required":
        del parent[last]
    else:
        parent[last] = BROKEN[violation.keyword](parent[last], violation.limit)
    return spec


@pytest.mark.parametrize("violation", VIOLATIONS, ids=str)
def test_a_broken_constraint_is_refused_by_name(api: Api, namespace: str, violation: Violation) -> None:
    answer = api.create(collection(namespace), deployment(broken(violation)))
    assert answer.status == 422
    limit = ", ".join(f'"{each}"' for each in violation.limit) if violation.keyword == "enum" else violation.limit
    words = WORDS[violation.keyword].format(limit)
    assert any(words in message for message in answer.causes[violation.field]), answer.causes


def test_the_complete_object_is_accepted(api: Api, namespace: str) -> None:
    answer = api.create(collection(namespace), deployment(COMPLETE))
    assert answer.accepted, answer.body
    assert answer.body["spec"] == COMPLETE


def given_fields(value: Any, path: str = "") -> Iterator[str]:
    for item in value if isinstance(value, list) else [value]:
        for name, inner in item.items() if isinstance(item, dict) else ():
            yield f"{path}.{name}"
            yield from given_fields(inner, f"{path}.{name}")


def test_the_complete_objects_have_every_field_and_so_breaks_every_constraint() -> None:
    assert set(fields_of(SPEC_SCHEMA)) <= {field for whole in WHOLE for field in given_fields(whole)}

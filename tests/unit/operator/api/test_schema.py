from collections.abc import Iterator
from typing import Any

import pytest

from generate import to_yaml
from onceserve_operator.api.schema import CRD_NAME, custom_resource_definition, openapi_schema, structural
from onceserve_operator.api.v1alpha1 import ModelDeploymentSpec

RULES = "x-kubernetes-validations"
INNER = {"type": "object", "description": "Inner.", "properties": {"a": {"type": "string", "default": "x"}}}
DEFINITIONS: dict[str, dict[str, Any]] = {
    "Inner": INNER,
    "Ruled": {"type": "string", RULES: [{"rule": "first", "message": "1"}]},
    "Plain": {"type": "object", "properties": {"a": {"type": "string"}}},
}


def resolved(schema: dict[str, Any]) -> dict[str, Any]:
    return structural(schema, DEFINITIONS)


def property_of(schema: dict[str, Any], *required: str) -> dict[str, Any]:
    parent = {"type": "object", "properties": {"field": schema}, "required": list(required)}
    found: dict[str, Any] = resolved(parent)["properties"]["field"]
    return found


def test_a_reference_is_replaced_by_what_it_names() -> None:
    assert resolved({"$ref": "#/$defs/Inner"}) == INNER


def test_the_description_of_a_field_goes_before_that_of_its_type() -> None:
    assert resolved({"$ref": "#/$defs/Inner", "description": "Outer."})["description"] == "Outer."


def test_rules_of_a_field_follow_those_of_its_type() -> None:
    ruled = resolved({"$ref": "#/$defs/Ruled", RULES: [{"rule": "second", "message": "2"}]})
    assert [rule["rule"] for rule in ruled[RULES]] == ["first", "second"]


def test_a_choice_with_null_becomes_the_thing_itself() -> None:
    nullable = {"anyOf": [{"$ref": "#/$defs/Ruled"}, {"type": "null"}], "default": None, "description": "Field."}
    assert resolved(nullable) == DEFINITIONS["Ruled"] | {"description": "Field."}


def test_a_null_default_does_not_hide_the_default_of_the_type() -> None:
    nullable = {"anyOf": [{"type": "string", "default": "x"}, {"type": "null"}], "default": None}
    assert resolved(nullable)["default"] == "x"


@pytest.mark.parametrize("useless", [{"title": "T"}, {"additionalProperties": False}, {"default": None}])
def test_what_the_api_server_has_no_use_for_is_left_out(useless: dict[str, Any]) -> None:
    assert resolved({"type": "object", **useless}) == {"type": "object"}


def test_a_default_of_false_or_zero_stays() -> None:
    assert resolved({"type": "boolean", "default": False})["default"] is False
    assert resolved({"type": "integer", "default": 0})["default"] == 0


def test_integers_have_32_bits_unless_they_say_more() -> None:
    assert resolved({"type": "integer"})["format"] == "int32"
    assert resolved({"type": "integer", "format": "int64"})["format"] == "int64"


def test_lists_and_maps_are_resolved_too() -> None:
    assert resolved({"type": "array", "items": {"$ref": "#/$defs/Inner"}})["items"] == INNER
    values = resolved({"type": "object", "additionalProperties": {"type": "string", "title": "T"}})
    assert values["additionalProperties"] == {"type": "string"}


def test_an_object_that_holds_defaults_is_there_by_default() -> None:
    assert property_of({"$ref": "#/$defs/Inner"})["default"] == {}


def test_an_object_without_defaults_is_not() -> None:
    assert "default" not in property_of({"$ref": "#/$defs/Plain"})


def test_an_object_that_must_be_given_or_may_be_absent_is_not_filled_in() -> None:
    assert "default" not in property_of({"$ref": "#/$defs/Inner"}, "field")
    assert "default" not in property_of({"anyOf": [{"$ref": "#/$defs/Inner"}, {"type": "null"}], "default": None})


def test_a_description_is_one_line() -> None:
    assert resolved({"type": "string", "description": "Two\n    lines."})["description"] == "Two lines."


# --- the definition itself


def nodes(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for name, inner in schema.get("properties", {}).items():
        yield from nodes(inner, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if key in schema:
            yield from nodes(schema[key], f"{path}[]")


NODES = dict(nodes(openapi_schema()))


def test_client_side_apply_can_carry_it() -> None:
    assert len(to_yaml(custom_resource_definition()).encode()) < 100_000


def test_it_comes_out_the_same_every_time() -> None:
    assert to_yaml(custom_resource_definition()) == to_yaml(custom_resource_definition())


def test_every_node_is_structural() -> None:
    for path, node in NODES.items():
        assert "$ref" not in node, path
        assert ("anyOf" in node) == ("x-kubernetes-int-or-string" in node), path
        untyped = {"x-kubernetes-int-or-string", "x-kubernetes-preserve-unknown-fields"} & node.keys()
        assert ("type" in node) != bool(untyped), path
        assert not ("properties" in node and "additionalProperties" in node), path


def test_every_field_is_explained() -> None:
    undescribed = [path for path, node in NODES.items() if "description" not in node and not path.endswith("[]")]
    assert undescribed == [".metadata"]


def test_every_rule_says_what_it_wants_in_one_line() -> None:
    messages = [rule["message"] for node in NODES.values() for rule in node.get(RULES, ())]
    assert messages
    assert all(message == " ".join(message.split()) and not message.endswith(".") for message in messages)


def test_only_the_model_must_be_given() -> None:
    assert NODES[""]["required"] == ["spec"]
    assert NODES[".spec"]["required"] == ["model"]
    assert NODES[".spec.model"]["required"] == ["uri"]


def test_lists_of_named_objects_are_merged_by_name() -> None:
    keys = {
        path: node["x-kubernetes-list-map-keys"] for path, node in NODES.items() if "x-kubernetes-list-type" in node
    }
    assert keys == {
        ".spec.server.imagePullSecrets": ["name"],
        ".spec.server.env": ["name"],
        ".spec.rollout.verification.metrics": ["name"],
        ".spec.rollout.verification.prometheus.queries": ["name"],
        ".status.revisions": ["name"],
        ".status.rollout.refused": ["revision"],
        ".status.conditions": ["type"],
    }


def test_every_field_of_the_types_is_in_it() -> None:
    names = {field.alias for field in ModelDeploymentSpec.model_fields.values()}
    assert set(NODES[".spec"]["properties"]) == names


def test_names() -> None:
    spec = custom_resource_definition()["spec"]
    assert f"{spec['names']['plural']}.{spec['group']}" == CRD_NAME == "modeldeployments.onceserve.dev"
    assert (spec["names"]["shortNames"], spec["names"]["categories"]) == (["mdep"], ["all"])

"""Writes every file that is made from something else; with --check it only says which of them are out of date."""

import argparse
import difflib
import json
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

import protocol
from onceserve_operator.api.schema import CRD_NAME, custom_resource_definition, openapi_schema
from onceserve_operator.api.v1alpha1 import API_VERSION, KIND, SHORT_NAME
from onceserve_operator.rollout.phases import TRANSITIONS

ROOT = Path(__file__).resolve().parent.parent
CHART = ROOT / "charts" / "onceserve"
COMMAND = "make generate"

Schema = Mapping[str, Any]
Render = Callable[[], str]


class _Dumper(yaml.SafeDumper):
    """Indents lists and repeats what is equal, as people write YAML."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002, FBT001, FBT002
        super().increase_indent(flow, indentless=False)

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002
        return True


def to_yaml(data: object) -> str:
    """Return block YAML in the order of the data."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, width=120, allow_unicode=True)


def definition() -> str:
    """Return the CustomResourceDefinition."""
    notice = f"# Generated from the types in operator/onceserve_operator/api: {COMMAND}"
    return f"{notice}\n{to_yaml(custom_resource_definition())}"


# --- the reference page of the resource


def resource_reference() -> str:
    """Return the reference page of the ModelDeployment."""
    schema = openapi_schema()
    parts = [
        f"# {KIND}",
        _notice("the types in `operator/onceserve_operator/api`"),
        f"`{API_VERSION}`, kind `{KIND}`, namespaced, short name `{SHORT_NAME}`. {schema['description']}",
        "The API server checks types, constraints and rules when an object is written, and says which one failed."
        f" `kubectl explain {SHORT_NAME}.spec` shows the same descriptions. A field without a default may be left out.",
        *_rules_of(schema, ""),
    ]
    for name in ("spec", "status"):
        parts += _sections(name, schema["properties"][name])
    return "\n\n".join(parts) + "\n"


def _notice(source: str) -> str:
    return f"<!-- Generated from {source}: {COMMAND} -->"


def _sections(path: str, schema: Schema) -> Iterator[str]:
    """Return a section for an object, and one for each object inside."""
    required = schema.get("required", ())
    yield f"## `{path}`"
    yield str(schema["description"])
    if rules := _rules_of(schema, "- "):
        yield "\n".join(rules)
    yield "\n".join(_entry(name, field, name in required) for name, field in schema["properties"].items())
    for name, field in schema["properties"].items():
        inner, suffix = _inner(field)
        if "properties" in inner:
            yield from _sections(f"{path}.{name}{suffix}", inner)


def _inner(field: Schema) -> tuple[Schema, str]:
    return (field["items"], "[]") if field.get("type") == "array" else (field, "")


def _entry(name: str, field: Schema, required: bool) -> str:  # noqa: FBT001
    facts = [_type(field), *(["required"] if required else []), *_default(field)]
    # The rules of an inner object stand in its own section.
    rules = [] if "properties" in field else _rules_of(field, "  ")
    head = [f"- **`{name}`** ({', '.join(facts)})", f"  {field['description']}"]
    return "\n".join([*head, *_constraint_line(field), *rules])


def _type(field: Schema) -> str:
    if field.get("x-kubernetes-int-or-string"):
        return "integer or string"
    if "type" not in field:
        return "value"
    if field["type"] == "array":
        keys = field.get("x-kubernetes-list-map-keys")
        return f"list of {_type(field['items'])}s" + (f", unique by `{keys[0]}`" if keys else "")
    if isinstance(field.get("additionalProperties"), dict):
        return f"map from string to {_type(field['additionalProperties'])}"
    return f"{field['type']}, {field['format']}" if field.get("format") == "date-time" else str(field["type"])


def _default(field: Schema) -> list[str]:
    default = field.get("default")
    return [] if default is None or isinstance(default, dict) else [f"default `{default}`"]


def _constraint_line(field: Schema) -> list[str]:
    constraints = list(_constraints(field))
    return [f"  Constraints: {'; '.join(constraints)}."] if constraints else []


def _constraints(field: Schema) -> Iterator[str]:
    if "enum" in field:
        yield "one of " + ", ".join(f"`{value}`" for value in field["enum"])
    yield from _bounds(field, "minimum", "maximum", "")
    yield from _bounds(field, "minLength", "maxLength", "characters")
    yield from _bounds(field, "minItems", "maxItems", "items")
    yield from _bounds(field, "minProperties", "maxProperties", "entries")
    if "pattern" in field:
        yield f"matches `{field['pattern']}`"
    values = field.get("additionalProperties")
    if isinstance(values, dict):
        yield from (f"each value {constraint}" for constraint in _constraints(values))


def _bounds(field: Schema, lowest: str, highest: str, unit: str) -> Iterator[str]:
    low, high = field.get(lowest), field.get(highest)
    if low is not None and high is not None:
        yield f"{low} to {high} {unit}".rstrip()
    elif low == 1 and unit:
        yield "not empty"
    elif low is not None:
        yield f"at least {low} {unit}".rstrip()
    elif high is not None:
        yield f"at most {high} {unit}".rstrip()


def _rules_of(schema: Schema, indent: str) -> list[str]:
    return [f"{indent}Rule: {rule['message']}." for rule in schema.get("x-kubernetes-validations", ())]


# --- the values of the chart


def chart_values() -> str:
    """Return the default values of the chart, each under its description."""
    head = ["# Generated from values.schema.json, which holds descriptions and defaults:", f"# {COMMAND}"]
    return "\n".join([*head, *_values(_values_schema(), "")]) + "\n"


def _values_schema() -> Schema:
    schema: Schema = json.loads((CHART / "values.schema.json").read_text())
    return schema


def _values(schema: Schema, indent: str) -> Iterator[str]:
    for name, field in schema["properties"].items():
        yield from [] if indent else [""]
        yield from textwrap.wrap(
            field["description"], 110, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# "
        )
        if "default" in field:
            yield f"{indent}{name}: {json.dumps(field['default'])}"
        else:
            yield f"{indent}{name}:"
            yield from _values(field, f"{indent}  ")


def chart_reference() -> str:
    """Return the reference page of the chart's values."""
    parts = [
        "# Values of the chart",
        _notice("`charts/onceserve/values.schema.json`"),
        "The chart refuses values that it does not know and values outside these constraints.",
        "\n".join(_value_entries(_values_schema(), "")),
    ]
    return "\n\n".join(parts) + "\n"


def _value_entries(schema: Schema, prefix: str) -> Iterator[str]:
    for name, field in schema["properties"].items():
        if "default" in field:
            yield f"- **`{prefix}{name}`** ({field.get('type', 'object')}, default `{json.dumps(field['default'])}`)"
            yield f"  {field['description']}"
            yield from _constraint_line(field)
        else:
            yield from _value_entries(field, f"{prefix}{name}.")


# --- the reference page of rollouts


def rollout_reference() -> str:
    """Return the page with the phases of a rollout and the ways between them."""
    parts = [
        "# Phases of a rollout",
        _notice("the table in `operator/onceserve_operator/rollout/phases.py`"),
        "`status.rollout.phase` is one of these; it never changes another way. Tests generate worlds until each row has"
        " been gone, and fail on any other.",
        "\n".join(["```mermaid", "stateDiagram-v2", "    [*] --> Stable", *_arrows(), "```"]),
        "\n".join(["| from | to | because |", "|---|---|---|", *_rows()]),
        "With `replicas: 0` each phase but Aborted becomes Stable: nothing serves, so nothing is put at risk.",
    ]
    return "\n\n".join(parts) + "\n"


def _arrows() -> Iterator[str]:
    yield from (f"    {before} --> {after}" for before, after in TRANSITIONS)


def _rows() -> Iterator[str]:
    yield from (f"| {before} | {after} | {why} |" for (before, after), why in TRANSITIONS.items())


# --- the table, and the command line

GENERATED: Mapping[str, Render] = {
    f"crds/{CRD_NAME}.yaml": definition,
    # Helm packages nothing from outside the chart's folder.
    f"charts/onceserve/files/{CRD_NAME}.yaml": definition,
    "charts/onceserve/values.yaml": chart_values,
    "docs/reference/modeldeployment.md": resource_reference,
    "docs/reference/chart-values.md": chart_reference,
    "docs/reference/rollout-phases.md": rollout_reference,
    "serving/onceserve_serving/proto/open_inference_pb2.py": protocol.messages,
    "serving/onceserve_serving/proto/open_inference_pb2.pyi": protocol.types,
}


def drift(root: Path, generated: Mapping[str, Render]) -> dict[str, str]:
    """Return, for each file that is not what it should be, how it differs."""
    differences = {path: _difference(root, path, render()) for path, render in generated.items()}
    return {path: difference for path, difference in differences.items() if difference}


def _difference(root: Path, path: str, wanted: str) -> str:
    present = (root / path).read_text() if (root / path).exists() else ""
    before, after = present.splitlines(keepends=True), wanted.splitlines(keepends=True)
    return "".join(difflib.unified_diff(before, after, f"{path} (present)", f"{path} (generated)"))


def write(root: Path, generated: Mapping[str, Render]) -> int:
    """Write what differs."""
    for path in drift(root, generated):
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(generated[path]())
        print(f"wrote {path}")
    return 0


def check(root: Path, generated: Mapping[str, Render]) -> int:
    """Print what differs; return a failing status where anything does."""
    differences = drift(root, generated)
    for difference in differences.values():
        print(difference)
    if not differences:
        return 0
    print(f"{len(differences)} of {len(generated)} generated files are out of date; run: {COMMAND}", file=sys.stderr)
    return 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the generated files, or check them; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="write nothing; fail with a diff where a file is out of date"
    )
    return (check if parser.parse_args(arguments).check else write)(ROOT, GENERATED)


if __name__ == "__main__":
    sys.exit(main())

"""Whether a live object is as it is wanted, decided without asking the API server."""

import hashlib
import json
from typing import Any

from kubernetes.utils.quantity import parse_quantity

from onceserve_operator.api.v1alpha1 import GROUP
from onceserve_operator.domain import Manifest

APPLIED = f"{GROUP}/applied"
"""Annotation with the hash of the manifest as last written: tells when a field is no longer wanted."""


def marked(manifest: Manifest) -> Manifest:
    """Return the manifest with the hash of itself."""
    digest = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()[:16]
    metadata = manifest["metadata"]
    return {**manifest, "metadata": {**metadata, "annotations": {**metadata.get("annotations", {}), APPLIED: digest}}}


def is_as_wanted(wanted: Any, live: Any) -> bool:  # noqa: ANN401 - any part of a manifest
    """Say whether every field that we own stands in the live object as we write it; further fields are others'."""
    match wanted, live:
        case dict(), dict():
            return all(_field_is_as_wanted(name, value, live.get(name)) for name, value in wanted.items())
        case list(), list():
            return _list_is_as_wanted(wanted, live)
        case _, None:
            # The API server leaves out what is empty.
            return wanted in ("", [], {}, None)
        case _:
            return bool(wanted == live) or _same_quantity(wanted, live)


def _field_is_as_wanted(name: str, wanted: Any, live: Any) -> bool:  # noqa: ANN401 - any part of a manifest
    # A further key of a selector, whosever it is, has it find others; the API server takes selectors whole.
    return bool(wanted == live) if name == "selector" else is_as_wanted(wanted, live)


def _list_is_as_wanted(wanted: list[Any], live: list[Any]) -> bool:
    """Compare by name where elements have one, so that an injected sidecar is no drift; else one by one."""
    if all(isinstance(each, dict) and "name" in each for each in (*wanted, *live)):
        by_name = {each["name"]: each for each in live}
        return all(each["name"] in by_name and is_as_wanted(each, by_name[each["name"]]) for each in wanted)
    return len(wanted) == len(live) and all(map(is_as_wanted, wanted, live))


def _same_quantity(wanted: Any, live: Any) -> bool:  # noqa: ANN401 - any part of a manifest
    """Compare amounts by value: the API server rewrites `1000m` to `1`."""
    try:
        return bool(parse_quantity(wanted) == parse_quantity(live))
    except (ValueError, TypeError):
        return False

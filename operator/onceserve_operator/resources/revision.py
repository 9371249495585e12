"""Revisions: which fields make one, and the ControllerRevision that keeps it."""

import hashlib
import json

from onceserve_operator.api.v1alpha1 import ModelDeploymentSpec
from onceserve_operator.domain import Key, Manifest, Observed, Revision
from onceserve_operator.resources import labels, names, pod

_SEEN_BY_PODS = ("model", "server", "batching", "admission", "auth", "idempotency")


def digest(spec: ModelDeploymentSpec) -> str:
    """Return the hash of what pods see, 10 hex digits.

    Fields at their default do not count: a release that adds a field, or has another default image, changes no hash.
    """
    given = spec.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    seen: Manifest = {part: given[part] for part in _SEEN_BY_PODS if part in given}
    if spread := given.get("availability", {}).get("spread"):
        seen["spread"] = spread
    return hashlib.sha256(json.dumps(seen, sort_keys=True).encode()).hexdigest()[:10]


def name(key: Key, spec: ModelDeploymentSpec) -> str:
    """Return the name of the revision that a spec asks for."""
    return names.revision(key, digest(spec))


def build(key: Key, spec: ModelDeploymentSpec, number: int, *, default_image: str, verification_key: str) -> Revision:
    """Return the revision that a spec asks for, not yet stored."""
    called = name(key, spec)
    template = pod.template(key, called, spec, default_image, verification_key)
    return Revision(name=called, number=number, template=template, sha256=spec.model.sha256)


def manifest(observed: Observed, revision: Revision) -> Manifest:
    """Return the ControllerRevision that keeps a revision for as long as it is in the history."""
    return {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": labels.metadata(observed, revision.name, labels.standard_of_revision(observed.key, revision.name)),
        "revision": revision.number,
        "data": {"template": revision.template} | ({"sha256": revision.sha256} if revision.sha256 else {}),
    }

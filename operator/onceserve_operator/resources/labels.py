"""Labels of all children. Selectors use the two of our own group and no others: the rest may change."""

from collections.abc import Mapping

from onceserve_operator.api.v1alpha1 import API_VERSION, GROUP, KIND
from onceserve_operator.domain import EVERYBODY, NOBODY, Key, Manifest, Observed, Revision, Traffic
from onceserve_operator.resources import names

MODEL_DEPLOYMENT = f"{GROUP}/modeldeployment"
REVISION = f"{GROUP}/revision"
MANAGED_BY = "app.kubernetes.io/managed-by"


def of_all(key: Key) -> dict[str, str]:
    """Return the selector of the pods of all revisions."""
    return {MODEL_DEPLOYMENT: key.name}


def of_revision(key: Key, revision: str) -> dict[str, str]:
    """Return the selector of one revision's pods."""
    return {**of_all(key), REVISION: revision}


def of_traffic(key: Key, traffic: Traffic, front: Revision) -> dict[str, str]:
    """Return the selector of the pods that get traffic."""
    if traffic == NOBODY:
        # No pod has it: a Service without any selector would be taken for one whose endpoints others manage.
        return of_revision(key, "")
    return of_all(key) if traffic.shared else of_revision(key, traffic.revision or front.name)


def traffic_of(selector: Mapping[str, str]) -> Traffic:
    """Return whom a Service with this selector sends requests to."""
    if REVISION in selector:
        return Traffic(selector[REVISION] or None)
    return EVERYBODY if MODEL_DEPLOYMENT in selector else NOBODY


def standard(key: Key) -> dict[str, str]:
    """Return the labels of every child."""
    return {
        **of_all(key),
        "app.kubernetes.io/name": "onceserve-server",
        "app.kubernetes.io/instance": key.name,
        "app.kubernetes.io/component": "model-server",
        "app.kubernetes.io/part-of": "onceserve",
        MANAGED_BY: names.FIELD_MANAGER,
    }


def standard_of_revision(key: Key, revision: str) -> dict[str, str]:
    """Return the labels of what belongs to one revision; its hash is the version that the pods serve."""
    version = revision.removeprefix(f"{key.name}-")
    return {**standard(key), REVISION: revision, "app.kubernetes.io/version": version}


def metadata(observed: Observed, name: str, labels: dict[str, str]) -> Manifest:
    """Return the metadata of a child: the garbage collector deletes it with its owner, operator or not."""
    owner = {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "name": observed.key.name,
        "uid": observed.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }
    return {"name": name, "namespace": observed.key.namespace, "labels": labels, "ownerReferences": [owner]}

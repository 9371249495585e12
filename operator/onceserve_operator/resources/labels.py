"""Labels of all children. Selectors use the two of our own group and no others: the rest may change."""

from onceserve_operator.api.v1alpha1 import API_VERSION, GROUP, KIND
from onceserve_operator.domain import Key, Manifest, Observed
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

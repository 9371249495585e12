"""The ServiceAccount of the pods: an identity without any right."""

from collections.abc import Iterable

from onceserve_operator.domain import Manifest, Observed, Revision
from onceserve_operator.resources import labels, names


def manifest(observed: Observed, running: Iterable[Revision]) -> Manifest | None:
    """Return the ServiceAccount, or None where no revision that has pods runs under it."""
    key = observed.key
    name = names.service_account(key)
    if all(revision.template["spec"]["serviceAccountName"] != name for revision in running):
        return None
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": labels.metadata(observed, name, labels.standard(key)),
        "automountServiceAccountToken": False,
    }

"""The ServiceAccount of the pods: an identity without any right."""

from onceserve_operator.api.v1alpha1 import Server
from onceserve_operator.domain import Manifest, Observed
from onceserve_operator.resources import labels, names


def manifest(observed: Observed, server: Server) -> Manifest | None:
    """Return the ServiceAccount, or None where the spec names an existing one."""
    if server.service_account_name is not None:
        return None
    key = observed.key
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": labels.metadata(observed, names.service_account(key), labels.standard(key)),
        "automountServiceAccountToken": False,
    }

"""The Service through which a model is called."""

from onceserve_contract import http
from onceserve_operator.domain import Manifest, Observed, Revision
from onceserve_operator.resources import labels, names

PORT = 80


def manifest(observed: Observed, stable: Revision) -> Manifest:
    """Return the Service, pinned to the revision that gets traffic."""
    key = observed.key
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": labels.metadata(observed, names.service(key), labels.standard(key)),
        "spec": {
            "type": "ClusterIP",
            "selector": labels.of_revision(key, stable.name),
            "ports": [
                {
                    "name": http.PORT_NAME,
                    "port": PORT,
                    "targetPort": http.PORT_NAME,
                    "protocol": "TCP",
                    "appProtocol": "http",
                }
            ],
        },
    }

"""The Service through which a model is called."""

from typing import Final

from onceserve_contract import grpc, http
from onceserve_operator.domain import Manifest, Observed, Revision
from onceserve_operator.resources import labels, names

PORTS: Final = {"http": 80, "https": 443}
"""Port of REST by scheme: the one that a URL may leave out."""

# Over TLS client and server agree on HTTP/2 by themselves.
_GRPC_PROTOCOLS = {"http": "kubernetes.io/h2c", "https": "https"}


def manifest(observed: Observed, stable: Revision) -> Manifest:
    """Return the Service, pinned to the revision that gets traffic, and to the protocol that its pods speak."""
    key, scheme = observed.key, stable.scheme
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": labels.metadata(observed, names.service(key), labels.standard(key)),
        "spec": {
            "type": "ClusterIP",
            "selector": labels.of_revision(key, stable.name),
            "ports": [
                _port(scheme, PORTS[scheme], http.PORT_NAME, scheme),
                _port(grpc.PORT_NAME, grpc.PORT, grpc.PORT_NAME, _GRPC_PROTOCOLS[scheme]),
            ],
        },
    }


def _port(name: str, port: int, target: str, protocol: str) -> Manifest:
    return {"name": name, "port": port, "targetPort": target, "protocol": "TCP", "appProtocol": protocol}

"""The Service through which a model is called."""

from typing import Final

from onceserve_contract import grpc, http
from onceserve_operator.domain import Manifest, Observed, Revision, Step
from onceserve_operator.resources import labels, names

PORTS: Final = {"http": 80, "https": 443}
"""Port of REST by scheme: the one that a URL may leave out."""

# Over TLS client and server agree on HTTP/2 by themselves.
_GRPC_PROTOCOLS = {"http": "kubernetes.io/h2c", "https": "https"}


def manifest(observed: Observed, step: Step) -> Manifest:
    """Return the Service that sends requests to whom they should go now, in the protocol that those pods speak."""
    key = observed.key
    selector = labels.of_traffic(key, step.traffic, step.front)
    return _service(observed, names.service(key), selector, step.front.scheme)


def preview(observed: Observed, revision: Revision) -> Manifest:
    """Return the Service by which a revision is reached whether it gets traffic or not."""
    key = observed.key
    return _service(observed, names.preview(key), labels.of_revision(key, revision.name), revision.scheme)


def _service(observed: Observed, name: str, selector: dict[str, str], scheme: str) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": labels.metadata(observed, name, labels.standard(observed.key)),
        "spec": {
            "type": "ClusterIP",
            "selector": selector,
            "ports": [
                _port(scheme, PORTS[scheme], http.PORT_NAME, scheme),
                _port(grpc.PORT_NAME, grpc.PORT, grpc.PORT_NAME, _GRPC_PROTOCOLS[scheme]),
            ],
        },
    }


def _port(name: str, port: int, target: str, protocol: str) -> Manifest:
    return {"name": name, "port": port, "targetPort": target, "protocol": "TCP", "appProtocol": protocol}

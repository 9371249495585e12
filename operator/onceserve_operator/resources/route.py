"""The HTTPRoute by which a Gateway calls the model, and splits traffic while a canary is on its way."""

from onceserve_operator.api.v1alpha1 import Gateway
from onceserve_operator.domain import Manifest, Observed, Revision, Step
from onceserve_operator.resources import labels, names
from onceserve_operator.resources.service import PORTS

API_VERSION = "gateway.networking.k8s.io/v1"
_ALL = 100


def manifest(observed: Observed, gateway: Gateway, step: Step, previewed: Revision) -> Manifest:
    """Return the route; both Services stand in it at all times, so that only their weights ever change."""
    key, weight = observed.key, step.routed_weight or 0
    backends = [
        _backend(names.service(key), step.front, _ALL - weight),
        _backend(names.preview(key), previewed, weight),
    ]
    hostnames = {"hostnames": gateway.hostnames} if gateway.hostnames else {}
    return {
        "apiVersion": API_VERSION,
        "kind": "HTTPRoute",
        "metadata": labels.metadata(observed, names.route(key), labels.standard(key)),
        "spec": {"parentRefs": [_parent(gateway)], **hostnames, "rules": [{"backendRefs": backends}]},
    }


def _parent(gateway: Gateway) -> Manifest:
    return gateway.model_dump(by_alias=True, exclude_none=True, include={"name", "namespace", "section_name"})


def _backend(service: str, revision: Revision, weight: int) -> Manifest:
    return {"name": service, "port": PORTS[revision.scheme], "weight": weight}

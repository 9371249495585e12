"""Names of all children, in one place."""

from onceserve_operator.domain import Key

FIELD_MANAGER = "onceserve-operator"


def service(key: Key) -> str:
    """Return the name of the Service, and so the DNS name of the model."""
    return key.name


def preview(key: Key) -> str:
    """Return the name of the Service that reaches a revision before it gets traffic."""
    return f"{key.name}-preview"


def route(key: Key) -> str:
    """Return the name of the HTTPRoute."""
    return key.name


def service_account(key: Key) -> str:
    """Return the name of the ServiceAccount that pods run under unless another is given."""
    return f"{key.name}-server"


def disruption_budget(key: Key) -> str:
    """Return the name of the PodDisruptionBudget."""
    return key.name


def autoscaler(key: Key) -> str:
    """Return the name of the HorizontalPodAutoscaler."""
    return key.name


def revision(key: Key, digest: str) -> str:
    """Return the name of a revision: of its ControllerRevision, its Deployment, and the label of its pods."""
    return f"{key.name}-{digest}"


def url(key: Key, scheme: str) -> str:
    """Return where the model is served inside the cluster."""
    return f"{scheme}://{service(key)}.{key.namespace}.svc"

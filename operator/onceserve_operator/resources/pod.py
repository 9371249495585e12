"""The pod that serves a model."""

from onceserve_contract import environment, grpc, http
from onceserve_operator.api.v1alpha1 import Availability, ModelDeploymentSpec, Server, Spread, Toleration
from onceserve_operator.domain import Key, Manifest
from onceserve_operator.resources import drain, labels, names, variables, volumes

CONTAINER = "server"

USER_ID = 65532
"""Neither root nor a user that any image or node is likely to have."""

_DEFAULT_REQUESTS = {"cpu": "100m", "memory": "128Mi"}

LOST_NODE_TAINTS = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
LOST_NODE_SECONDS = 30
"""Seconds that pods stay with a node which the cluster takes for lost; of itself Kubernetes replaces them after 300."""


def template(key: Key, revision: str, spec: ModelDeploymentSpec, default_image: str, verification_key: str) -> Manifest:
    """Return the pod template of a revision."""
    return {
        "metadata": {"labels": labels.standard_of_revision(key, revision)},
        "spec": {
            "serviceAccountName": spec.server.service_account_name or names.service_account(key),
            "automountServiceAccountToken": False,
            # With them every Service of the namespace would be in the environment, and could collide with ours.
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": drain.grace_period(spec.admission),
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": USER_ID,
                "runAsGroup": USER_ID,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [_container(key, revision, spec, default_image, verification_key)],
            **volumes.of_pod(spec),
            **_placement(spec.server),
            **_spread(key, revision, spec.availability),
        },
    }


def _container(
    key: Key, revision: str, spec: ModelDeploymentSpec, default_image: str, verification_key: str
) -> Manifest:
    verification = {"name": environment.VERIFICATION_KEY, "value": verification_key}
    return {
        "name": CONTAINER,
        "image": spec.server.image or default_image,
        "args": ["serve"],
        "ports": [
            {"name": protocol.PORT_NAME, "containerPort": protocol.PORT, "protocol": "TCP"} for protocol in (http, grpc)
        ],
        "env": [verification, *variables.of_container(key, revision, spec)],
        "resources": _resources(spec.server),
        # A crash that leaves no message of ours is shown by its last log lines.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        **_probes(spec.server),
        **volumes.of_container(spec),
    }


def _resources(server: Server) -> Manifest:
    given = server.resources
    # Kubernetes takes an absent request from the limit; a default of ours must not go below that.
    defaults = {name: amount for name, amount in _DEFAULT_REQUESTS.items() if name not in given.limits}
    resources: Manifest = {"requests": {**defaults, **given.requests}}
    if given.limits:
        resources["limits"] = dict(given.limits)
    return resources


def _probes(server: Server) -> Manifest:
    # The kubelet asks whatever certificate it is shown.
    scheme = {"scheme": "HTTPS"} if server.tls else {}

    def get(path: str) -> Manifest:
        return {"httpGet": {"path": path, "port": http.PORT_NAME, **scheme}}

    return {
        # A server whose model cannot be loaded ends by itself and says why: this bound is for large downloads.
        "startupProbe": {**get(http.READY_PATH), "periodSeconds": 1, "timeoutSeconds": 2, "failureThreshold": 1800},
        # A busy node makes all its pods slow to answer probes: to take them all away would fail calls that wait else.
        "readinessProbe": {**get(http.READY_PATH), "periodSeconds": 2, "timeoutSeconds": 3, "failureThreshold": 3},
        "livenessProbe": {**get(http.LIVE_PATH), "periodSeconds": 10, "timeoutSeconds": 5, "failureThreshold": 3},
    }


def _placement(server: Server) -> Manifest:
    fields = {"node_selector", "priority_class_name", "image_pull_secrets"}
    placement = server.model_dump(by_alias=True, include=fields, exclude_none=True, exclude_defaults=True)
    return {**placement, "tolerations": _tolerations(server.tolerations)}


def _tolerations(given: list[Toleration]) -> list[Manifest]:
    lost = {"operator": "Exists", "effect": "NoExecute", "tolerationSeconds": LOST_NODE_SECONDS}
    missing = [taint for taint in LOST_NODE_TAINTS if not any(_concerns(each, taint) for each in given)]
    return [
        *(each.model_dump(by_alias=True, exclude_none=True) for each in given),
        *({"key": taint, **lost} for taint in missing),
    ]


def _concerns(toleration: Toleration, taint: str) -> bool:
    """Say whether a person has decided how long pods stay with a node of this taint."""
    return toleration.key in {taint, None} and toleration.effect in {"NoExecute", None}


def _spread(key: Key, revision: str, availability: Availability) -> Manifest:
    if availability.spread is Spread.NONE:
        return {}
    required = availability.spread is Spread.REQUIRED
    selector = {"matchLabels": labels.of_revision(key, revision)}
    hosts = {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "DoNotSchedule" if required else "ScheduleAnyway",
        # A node that is lost or drained is none that lacks pods: else nothing but its return would let them start.
        "nodeTaintsPolicy": "Honor",
        "labelSelector": selector,
    }
    # A second constraint would do away with the first on nodes that tell no zone: those are left out of both.
    zones = {"labelSelector": selector, "topologyKey": "topology.kubernetes.io/zone"}
    preferred = [{"weight": 100, "podAffinityTerm": zones}]
    return {
        "topologySpreadConstraints": [hosts],
        "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": preferred}},
    }

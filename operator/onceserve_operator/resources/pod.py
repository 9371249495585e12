"""The pod that serves a model."""

from onceserve_contract import environment, http
from onceserve_operator.api.v1alpha1 import Availability, EnvVar, ModelDeploymentSpec, Server, Spread
from onceserve_operator.domain import Key, Manifest
from onceserve_operator.resources import labels, names

CONTAINER = "server"

USER_ID = 65532
"""Neither root nor a user that any image or node is likely to have."""

DRAIN_DELAY = 5
"""Seconds that a leaving pod still answers: kube-proxy on every node has learnt of its leave by then."""
DRAIN_TIMEOUT = 30
"""Seconds for requests in flight after that."""
TERMINATION_SLACK = 5
"""Seconds for the process itself to end, before the kubelet kills it."""

_DEFAULT_REQUESTS = {"cpu": "100m", "memory": "128Mi"}
_MODEL_VOLUME = "model"
_MODEL_DIRECTORY = "/var/lib/onceserve/model"
_CONFIGMAP_SCHEME = "configmap://"


def template(key: Key, revision: str, spec: ModelDeploymentSpec, default_image: str) -> Manifest:
    """Return the pod template of a revision."""
    return {
        "metadata": {"labels": labels.standard_of_revision(key, revision)},
        "spec": {
            "serviceAccountName": spec.server.service_account_name or names.service_account(key),
            "automountServiceAccountToken": False,
            # With them every Service of the namespace would be in the environment, and could collide with ours.
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": DRAIN_DELAY + DRAIN_TIMEOUT + TERMINATION_SLACK,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": USER_ID,
                "runAsGroup": USER_ID,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [_container(key, revision, spec, default_image)],
            **_volumes(spec),
            **_placement(spec.server),
            **_spread(key, revision, spec.availability),
        },
    }


def _container(key: Key, revision: str, spec: ModelDeploymentSpec, default_image: str) -> Manifest:
    container: Manifest = {
        "name": CONTAINER,
        "image": spec.server.image or default_image,
        "args": ["serve"],
        "ports": [{"name": http.PORT_NAME, "containerPort": http.PORT, "protocol": "TCP"}],
        "env": _env(key, revision, spec),
        "resources": _resources(spec.server),
        # A crash that leaves no message of ours is shown by its last log lines.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        **_probes(),
    }
    if _is_configmap(spec):
        container["volumeMounts"] = [{"name": _MODEL_VOLUME, "mountPath": _MODEL_DIRECTORY, "readOnly": True}]
    return container


def _env(key: Key, revision: str, spec: ModelDeploymentSpec) -> list[Manifest]:
    ours = {
        environment.MODEL_NAME: spec.model.name or key.name,
        environment.MODEL_VERSION: revision,
        environment.MODEL_URI: _uri_in_pod(spec),
        environment.MODEL_SHA256: spec.model.sha256,
        environment.THREADS: str(spec.server.threads),
        environment.PORT: str(http.PORT),
        environment.DRAIN_DELAY: str(DRAIN_DELAY),
        environment.DRAIN_TIMEOUT: str(DRAIN_TIMEOUT),
    }
    pod_name = {"name": environment.POD_NAME, "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}
    given = [{"name": name, "value": value} for name, value in ours.items() if value is not None]
    return [*given, pod_name, *(_user_variable(variable) for variable in spec.server.env)]


def _user_variable(variable: EnvVar) -> Manifest:
    return variable.model_dump(by_alias=True, exclude_none=True)


def _resources(server: Server) -> Manifest:
    given = server.resources
    # Kubernetes takes an absent request from the limit; a default of ours must not go below that.
    defaults = {name: amount for name, amount in _DEFAULT_REQUESTS.items() if name not in given.limits}
    resources: Manifest = {"requests": {**defaults, **given.requests}}
    if given.limits:
        resources["limits"] = dict(given.limits)
    return resources


def _probes() -> Manifest:
    def get(path: str) -> Manifest:
        return {"httpGet": {"path": path, "port": http.PORT_NAME}}

    return {
        # A server whose model cannot be loaded ends by itself and says why: this bound is for large downloads.
        "startupProbe": {**get(http.READY_PATH), "periodSeconds": 1, "timeoutSeconds": 2, "failureThreshold": 1800},
        "readinessProbe": {**get(http.READY_PATH), "periodSeconds": 2, "timeoutSeconds": 2, "failureThreshold": 2},
        "livenessProbe": {**get(http.LIVE_PATH), "periodSeconds": 10, "timeoutSeconds": 5, "failureThreshold": 3},
    }


def _is_configmap(spec: ModelDeploymentSpec) -> bool:
    return spec.model.uri.startswith(_CONFIGMAP_SCHEME)


def _configmap(spec: ModelDeploymentSpec) -> tuple[str, str]:
    name, _, entry = spec.model.uri.removeprefix(_CONFIGMAP_SCHEME).partition("/")
    return name, entry


def _uri_in_pod(spec: ModelDeploymentSpec) -> str:
    return f"file://{_MODEL_DIRECTORY}/{_configmap(spec)[1]}" if _is_configmap(spec) else spec.model.uri


def _volumes(spec: ModelDeploymentSpec) -> Manifest:
    if not _is_configmap(spec):
        return {}
    name, _ = _configmap(spec)
    # Optional, so that the server starts and says in the status what is missing, instead of waiting without a word.
    return {"volumes": [{"name": _MODEL_VOLUME, "configMap": {"name": name, "optional": True}}]}


def _placement(server: Server) -> Manifest:
    fields = {"node_selector", "tolerations", "priority_class_name", "image_pull_secrets"}
    return server.model_dump(by_alias=True, include=fields, exclude_none=True, exclude_defaults=True)


def _spread(key: Key, revision: str, availability: Availability) -> Manifest:
    if availability.spread is Spread.NONE:
        return {}
    required = availability.spread is Spread.REQUIRED
    selector = {"matchLabels": labels.of_revision(key, revision)}
    return {
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": topology,
                "whenUnsatisfiable": "DoNotSchedule" if required else "ScheduleAnyway",
                "labelSelector": selector,
            }
            for topology in ("kubernetes.io/hostname", "topology.kubernetes.io/zone")
        ]
    }

"""What is mounted into the pod that serves a model.

Whole directories, never single files by subPath, which would not follow a Secret that changes.
"""

from typing import Final, NamedTuple

from onceserve_operator.api.v1alpha1 import ModelDeploymentSpec
from onceserve_operator.domain import Manifest

MODEL: Final = "/var/lib/onceserve/model"
API_KEYS: Final = "/etc/onceserve/api-keys"
TLS: Final = "/etc/onceserve/tls"

_CONFIGMAP_SCHEME = "configmap://"


class Mounted(NamedTuple):
    """A volume and where the server finds it."""

    name: str
    directory: str
    source: Manifest


def of_pod(spec: ModelDeploymentSpec) -> Manifest:
    """Return the field `volumes` of a pod; nothing where there are none."""
    volumes = [{"name": each.name, **each.source} for each in _mounted(spec)]
    return {"volumes": volumes} if volumes else {}


def of_container(spec: ModelDeploymentSpec) -> Manifest:
    """Return the field `volumeMounts` of the server's container; nothing where there are none."""
    mounts = [{"name": each.name, "mountPath": each.directory, "readOnly": True} for each in _mounted(spec)]
    return {"volumeMounts": mounts} if mounts else {}


def model_uri(spec: ModelDeploymentSpec) -> str:
    """Return where the server finds the model."""
    configmap = _configmap(spec)
    return f"file://{MODEL}/{configmap[1]}" if configmap else spec.model.uri


def _mounted(spec: ModelDeploymentSpec) -> list[Mounted]:
    mounted = []
    if configmap := _configmap(spec):
        # Optional, so that the server starts and says in the status what is missing, instead of waiting without a word.
        mounted.append(Mounted("model", MODEL, {"configMap": {"name": configmap[0], "optional": True}}))
    if spec.auth:
        mounted.append(Mounted("api-keys", API_KEYS, _secret(spec.auth.api_keys.secret_name)))
    if spec.server.tls:
        mounted.append(Mounted("tls", TLS, _secret(spec.server.tls.secret_name)))
    return mounted


def _secret(name: str) -> Manifest:
    # Not optional: who makes Secrets, such as cert-manager, is often later than who uses them.
    return {"secret": {"secretName": name}}


def _configmap(spec: ModelDeploymentSpec) -> tuple[str, str] | None:
    """Return the name and the key of the ConfigMap that holds the model, if one does."""
    if not spec.model.uri.startswith(_CONFIGMAP_SCHEME):
        return None
    name, _, entry = spec.model.uri.removeprefix(_CONFIGMAP_SCHEME).partition("/")
    return name, entry

"""Pods by which the demo asks, as any application of the cluster would."""

from typing import Any


def spec(name: str, image: str, command: list[str], *, files: str | None = None) -> dict[str, Any]:
    """Return a pod that the restricted standard lets in, with the files of a ConfigMap in /client."""
    container = {
        "name": name,
        "image": image,
        "command": command,
        "volumeMounts": [{"name": files, "mountPath": "/client"}] if files else [],
        "securityContext": {
            "readOnlyRootFilesystem": True,
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    return {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "securityContext": {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
        "volumes": [{"name": files, "configMap": {"name": files}}] if files else [],
    }

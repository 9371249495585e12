"""The definitions of the Gateway API, from its pinned Go module."""

import json
import os
import subprocess
from pathlib import Path

from devcluster import binaries
from devcluster.errors import BuildError

MODULE = "sigs.k8s.io/gateway-api"
_SECONDS = 300


def definitions() -> Path:
    """Return the directory of its manifests, downloaded into Go's own cache where that lacks it.

    Raises BuildError where it cannot be had, or is not what `modules/gateway-api/go.sum` says.
    """
    command = [str(binaries.go()), "mod", "download", "-json", MODULE]
    environment = {**os.environ, "GOWORK": "off"}
    result = subprocess.run(
        command,
        cwd=binaries.MODULES / "gateway-api",
        env=environment,
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
    )
    if result.returncode != 0:
        raise BuildError(f"{' '.join(command)} failed:\n{result.stdout}{result.stderr}")
    return Path(json.loads(result.stdout)["Dir"]) / "config" / "crd" / "standard"

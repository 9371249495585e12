"""Says in words what this machine lacks, and installs what it can."""

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from devcluster import cgroups, debian
from devcluster.errors import PreflightError

CNI_DIRECTORIES = (Path("/usr/lib/cni"), Path("/opt/cni/bin"), Path("/usr/libexec/cni"))
CNI_PLUGINS = ("ptp", "host-local", "portmap", "loopback")
SYSTEM_PATH = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"

# Each runs in namespaces of its own that end with it.
KERNEL_FEATURES = {
    "network namespaces": "true",
    "veth pairs (CONFIG_VETH)": "ip link add veth0 type veth peer name veth1",
    "bridges (CONFIG_BRIDGE)": "ip link add bridge0 type bridge",
    "iptables nat (CONFIG_NF_NAT)": "iptables -t nat -A OUTPUT -m addrtype --dst-type LOCAL -j ACCEPT",
    "iptables conntrack (CONFIG_NF_CONNTRACK)": "iptables -A FORWARD -m conntrack --ctstate INVALID -j DROP",
    "overlayfs in the state directory (choose another with --state-dir)": (
        'cd "$0" && mkdir lower upper work merged && '
        "mount -t overlay overlay -o lowerdir=lower,upperdir=upper,workdir=work merged"
    ),
}


def cni_directory() -> Path | None:
    """Return where the CNI plugins are."""
    return next((path for path in CNI_DIRECTORIES if all((path / name).exists() for name in CNI_PLUGINS)), None)


def _has(program: str) -> Callable[[], bool]:
    return lambda: shutil.which(program, path=SYSTEM_PATH) is not None


DEBIAN_PACKAGES: dict[str, Callable[[], bool]] = {
    "runc": _has("runc"),
    "containernetworking-plugins": lambda: cni_directory() is not None,
    "iptables": _has("iptables"),
    "conntrack": _has("conntrack"),
    "iproute2": _has("ip"),
    "util-linux": _has("nsenter"),
    "mount": _has("mount"),
}


def check_nodes(state_dir: Path) -> None:
    """Raise unless this machine can run nodes."""
    if os.geteuid() != 0:
        raise PreflightError("nodes need root (sudo); --control-plane-only runs without")
    install_packages()
    check_kernel(state_dir)


def install_packages() -> None:
    """Install the missing Debian packages, or name them."""
    if missing := [package for package, present in DEBIAN_PACKAGES.items() if not present()]:
        debian.install(missing)


def check_kernel(state_dir: Path) -> None:
    """Raise with what the kernel (or the container around us) does not offer."""
    state_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=state_dir) as directory:
        problems = [problem for name, script in KERNEL_FEATURES.items() if (problem := _try(name, script, directory))]
    with contextlib.suppress(OSError):
        state_dir.rmdir()
    if missing := cgroups.missing_controllers():
        problems.append(f"  cgroup controllers: {', '.join(sorted(missing))}")
    if problems:
        raise PreflightError("this machine cannot run nodes; it lacks:\n" + "\n".join(problems))


def _try(name: str, script: str, directory: str) -> str | None:
    command = ["unshare", "--net", "--mount", "sh", "-c", script, directory]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    return f"  {name}: {result.stderr.strip()}" if result.returncode != 0 else None

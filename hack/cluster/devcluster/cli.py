import argparse
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from devcluster import binaries, metrics_server
from devcluster.cluster import Cluster
from devcluster.errors import ClusterError

INTERRUPTED = 130


def build(_cluster: Cluster, arguments: argparse.Namespace) -> int:
    """Build the binaries that the cache does not have."""
    names = arguments.component or [component.name for component in binaries.COMPONENTS]
    for component in binaries.COMPONENTS:
        if component.name in names:
            print(binaries.build(component))
    return 0


def up(cluster: Cluster, arguments: argparse.Namespace) -> int:
    """Bring the cluster up, or find it up."""
    cluster.up(arguments.nodes, control_plane_only=arguments.control_plane_only)
    print(cluster.kubeconfig)
    return 0


def down(cluster: Cluster, arguments: argparse.Namespace) -> int:
    """End and remove the cluster."""
    cluster.down(keep_logs=arguments.keep_logs)
    return 0


def status(cluster: Cluster, _arguments: argparse.Namespace) -> int:
    """Show every component with its state."""
    rows = cluster.status()
    if not rows:
        print(f"there is no cluster {cluster.name}")
        return 1
    print(f"{'COMPONENT':28}{'PID':10}{'NODE':10}STATE")
    for row in rows:
        print(f"{row.component:28}{row.pid or '-'!s:10}{row.node or '-':10}{row.state}")
    return 0


def load_image(cluster: Cluster, arguments: argparse.Namespace) -> int:
    """Import OCI archives into every node."""
    cluster.load_images(arguments.archive)
    return 0


def install_metrics_server(cluster: Cluster, _arguments: argparse.Namespace) -> int:
    """Have nodes and pods measured, for `kubectl top` and HorizontalPodAutoscalers."""
    metrics_server.install(cluster)
    return 0


def kubeconfig(cluster: Cluster, _arguments: argparse.Namespace) -> int:
    """Print the path of the kubeconfig."""
    if not cluster.exists:
        raise ClusterError(f"there is no cluster {cluster.name}; `up` makes it")
    print(cluster.kubeconfig)
    return 0


def path(_cluster: Cluster, arguments: argparse.Namespace) -> int:
    """Print the path of a binary, such as kubectl or helm."""
    print(binaries.find(arguments.binary))
    return 0


def logs(cluster: Cluster, arguments: argparse.Namespace) -> int:
    """List the logs, or show one."""
    if arguments.component is None:
        print("\n".join(sorted(log.stem for log in cluster.layout.logs.glob("*.log"))))
        return 0
    log = cluster.layout.logs / f"{arguments.component}.log"
    if not log.exists():
        raise ClusterError(f"there is no {log}")
    return subprocess.run(["tail", *arguments.tail, str(log)], check=False).returncode


def stop_node(cluster: Cluster, arguments: argparse.Namespace) -> int:
    """Lose a node."""
    cluster.stop_node(arguments.node, link_only=arguments.link_only)
    return 0


def start_node(cluster: Cluster, arguments: argparse.Namespace) -> int:
    """Bring a lost node back."""
    cluster.start_node(arguments.node)
    return 0


def execute(cluster: Cluster, arguments: argparse.Namespace) -> int:
    """Run a program in a node's network."""
    return subprocess.run(cluster.exec_command(arguments.node, arguments.command), check=False).returncode


def create_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(prog="devcluster", description="A real Kubernetes on one Linux machine.")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--name", default="dev", help="which cluster (default: dev)")
    common.add_argument("--state-dir", type=Path, help="where its state is (default: by user and name)")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, handler: Callable[[Cluster, argparse.Namespace], int]) -> argparse.ArgumentParser:
        command = commands.add_parser(name, parents=[common], help=handler.__doc__, description=handler.__doc__)
        command.set_defaults(handler=handler)
        return command

    _add_lifecycle(add)
    _add_access(add)
    return parser


def _add_lifecycle(add: Callable[..., argparse.ArgumentParser]) -> None:
    names = [component.name for component in binaries.COMPONENTS]
    add("build", build).add_argument("component", nargs="*", help=f"of {', '.join(names)} (default: all)")
    command = add("up", up)
    command.add_argument("--nodes", type=int, default=3, metavar="N", help="how many nodes (default: 3)")
    command.add_argument("--control-plane-only", action="store_true", help="no nodes; needs no root")
    add("down", down).add_argument("--keep-logs", action="store_true", help="leave the logs")
    command = add("stop-node", stop_node)
    command.add_argument("node")
    command.add_argument("--link-only", action="store_true", help="cut its link and let it run: a partition")
    add("start-node", start_node).add_argument("node")


def _add_access(add: Callable[..., argparse.ArgumentParser]) -> None:
    add("status", status)
    add("kubeconfig", kubeconfig)
    add("path", path).add_argument("binary")
    add("load-image", load_image).add_argument("archive", nargs="+", type=Path)
    add("install-metrics-server", install_metrics_server)
    command = add("logs", logs)
    command.add_argument("component", nargs="?")
    command.add_argument("--tail", action="store_const", const=["-f"], default=["-n", "+1"], help="follow the log")
    command = add("exec", execute)
    command.add_argument("node")
    command.add_argument("command", nargs=argparse.REMAINDER, metavar="-- COMMAND")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return the exit status."""
    arguments = create_parser().parse_args(argv)
    if getattr(arguments, "command", None) and arguments.command[0] == "--":
        del arguments.command[0]
    try:
        result: int = arguments.handler(Cluster(arguments.name, arguments.state_dir), arguments)
    except ClusterError as error:
        print(f"devcluster: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("devcluster: interrupted; `up` goes on from here, `down` removes all", file=sys.stderr)
        return INTERRUPTED
    return result

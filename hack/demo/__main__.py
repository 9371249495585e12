"""Command line of the demo."""

import argparse
import subprocess
import sys

from demo.clusters import Existing, Own, Target
from demo.show import clean, show
from devcluster.errors import ClusterError


def main() -> None:
    """Run the demo, or remove what it made."""
    parser = argparse.ArgumentParser(prog="demo", description="Serve a model on a real cluster, and look at it.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in {"up": "serve the example and show it", "down": "remove all that the demo made"}.items():
        command = commands.add_parser(name, help=text)
        command.add_argument("--context", help="kubeconfig context of an existing cluster (default: one made here)")
        command.add_argument(
            "--images", help="with --context: where its nodes find the images, such as ghcr.example/me"
        )
        command.add_argument("--name", default="demo", help="name of the cluster made here (default: %(default)s)")
    arguments = parser.parse_args()
    target: Target = Existing(arguments.context, arguments.images) if arguments.context else Own(arguments.name)
    try:
        show(target) if arguments.command == "up" else clean(target)
    except ClusterError as error:
        sys.exit(f"\ndemo: {error}")
    except subprocess.CalledProcessError as error:
        sys.exit(f"\ndemo: {' '.join(map(str, error.cmd[:4]))} …: {(error.stderr or error.stdout or '').strip()}")
    except KeyboardInterrupt:
        sys.exit("\ndemo: interrupted; `make demo` goes on, `make demo-down` cleans up")


if __name__ == "__main__":
    main()

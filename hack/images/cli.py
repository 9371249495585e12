import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from images import builder
from images.errors import ImageError

INTERRUPTED = 130
MEGABYTE = 10**6


def create_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(prog="images", description="Builds OnceServe's container images.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser("build", help=build.__doc__, description=build.__doc__)
    command.set_defaults(handler=build)
    command.add_argument("--target", choices=[*builder.TARGETS, "all"], default="all", help="which (default: all)")
    command.add_argument("--output", type=Path, metavar="DIR", help="copy the archives here, too")
    command.add_argument("--base", metavar="IMAGE", help="base image (default: the engine's)")
    command.add_argument("--engine", choices=builder.ENGINES, default="auto", help="default: what works here")
    command = commands.add_parser("clean", help=clean.__doc__, description=clean.__doc__)
    command.set_defaults(handler=clean)
    return parser


def build(arguments: argparse.Namespace) -> None:
    """Build the images whose sources have changed, as OCI archives."""
    targets = builder.TARGETS if arguments.target == "all" else (arguments.target,)
    rows = [_build_row(target, arguments) for target in targets]
    print(f"{'IMAGE':40}{'ARCHIVE':>10}{'UNPACKED':>10}  PATH")
    print("\n".join(rows))


def _build_row(target: str, arguments: argparse.Namespace) -> str:
    [archive] = builder.build(target, base=arguments.base, engine=arguments.engine)
    sizes = builder.sizes(archive)
    path = builder.copy_to(archive, target, arguments.output) if arguments.output else archive
    return f"{builder.reference(target):40}{_megabytes(sizes.archive):>10}{_megabytes(sizes.unpacked):>10}  {path}"


def _megabytes(size: int) -> str:
    return f"{size / MEGABYTE:.1f} MB"


def clean(_arguments: argparse.Namespace) -> None:
    """Remove all archives and layers, and the base system, which the next build installs anew."""
    builder.clean()


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return the exit status."""
    arguments = create_parser().parse_args(argv)
    try:
        arguments.handler(arguments)
    except ImageError as error:
        print(f"images: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nimages: interrupted; the next build goes on from the finished layers", file=sys.stderr)
        return INTERRUPTED
    return 0

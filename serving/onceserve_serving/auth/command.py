"""`onceserve hash-key`: makes an API key."""

import argparse
import sys
from typing import Any, Final

from onceserve_serving.auth import keys

DESCRIPTION: Final = """\
Make an API key. The first line of the output is the key, for its owner alone: it is stored nowhere and cannot be had
again. The second line is its hash, for the file or Secret that --api-keys names."""

EXAMPLE: Final = """\
example:
  onceserve hash-key --owner ann
  # append the second line to keys.txt, then
  onceserve serve model.onnx --api-keys keys.txt"""


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to a command line."""
    command = commands.add_parser(
        "hash-key",
        help="make an API key and its hash",
        description=DESCRIPTION,
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    command.add_argument(
        "--owner",
        default="",
        type=_owner,
        help="whose key it is: the tenant of its calls; not needed where a file of keys is named after its owner",
    )
    command.set_defaults(run=run)


def run(options: dict[str, Any]) -> int:
    """Print a new key and its line."""
    key = keys.new_key()
    sys.stdout.write(f"{key}\n{keys.line_of(key, options['owner'])}\n")
    return 0


def _owner(text: str) -> str:
    if not keys.OWNER.fullmatch(text):
        raise argparse.ArgumentTypeError("expected letters, digits and any of . _ @ -, 253 at most")
    return text

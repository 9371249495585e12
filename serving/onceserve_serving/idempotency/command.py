"""`onceserve ledger`: lists and exports the ledger of answers."""

import argparse
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

from onceserve_contract.environment import IDEMPOTENCY_SCOPE, IDEMPOTENCY_STORE
from onceserve_serving.errors import InvalidKeyError, InvalidSettingsError, OnceServeError
from onceserve_serving.idempotency import key
from onceserve_serving.idempotency.ledger import LedgerFilter

FORMATS: Final = ("table", "jsonl", "csv")

FAILED: Final = 1
EXIT_SETTINGS: Final = 2
INTERRUPTED: Final = 130

RECORD_BYTES: Final = 32

DESCRIPTION: Final = """\
List the ledger of a store postgresql://: one row for each answer to a request with a key, in the order of their
numbers. Each option but --format makes them fewer. What is listed is not held in memory, so it may be any number."""

EXAMPLE: Final = """\
example:
  export ONCESERVE_IDEMPOTENCY_STORE=postgresql://auditor:PASSWORD@db/onceserve
  onceserve ledger --tenant ann --since 2026-11-01 --format csv > november.csv
  onceserve ledger --key order-7 --scope default/risk --format jsonl

Exit codes: 0 all is listed, 1 the store does not answer (what was listed is not all), 2 bad options."""


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to a command line."""
    command = commands.add_parser(
        "ledger",
        help="list or export the ledger of answers",
        description=DESCRIPTION,
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    command.add_argument(
        "--store",
        metavar="URL",
        default=os.environ.get(IDEMPOTENCY_STORE, ""),
        help=f"the store; a password is better in {IDEMPOTENCY_STORE}, since others see a command's options",
    )
    command.add_argument("--tenant", type=_text, help="whose requests: the owner of their API key")
    command.add_argument("--model", type=_text, help="name of the model that answered")
    command.add_argument("--since", metavar="TIME", type=_time, help="answered then or later")
    command.add_argument("--until", metavar="TIME", type=_time, help="answered before then")
    one = command.add_mutually_exclusive_group()
    one.add_argument("--record", metavar="HEX", type=_record, help="hash of the scope and the key, as a row has it")
    one.add_argument("--key", type=_key, help="the request's Idempotency-Key, beside its --tenant (if any) and --scope")
    command.add_argument(
        "--scope",
        type=_text,
        default=os.environ.get(IDEMPOTENCY_SCOPE, ""),
        help=f"what keys are unique in: NAMESPACE/NAME of a ModelDeployment; for --key [{IDEMPOTENCY_SCOPE}]",
    )
    command.add_argument("--format", choices=FORMATS, default=FORMATS[0], help="default %(default)s")
    command.set_defaults(run=run)


def run(options: dict[str, Any]) -> int:
    """Write the rows that are asked for; return the exit code."""
    try:
        _list(options["store"], filters(options), options["format"])
    except BrokenPipeError:
        # Who read has enough; the interpreter would write once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        return INTERRUPTED
    except OnceServeError as error:
        sys.stderr.write(f"onceserve ledger: {error}\n")
        return EXIT_SETTINGS if isinstance(error, InvalidSettingsError) else FAILED
    return 0


def filters(options: dict[str, Any]) -> Sequence[LedgerFilter]:
    """Return what is asked for: for a key one filter for each way by which its request may have come.

    Raises InvalidSettingsError.
    """
    since, until = options["since"], options["until"]
    if since and until and since >= until:
        raise InvalidSettingsError("--until: a time after --since was expected")
    records = _records(options) if options["key"] else [options["record"]]
    return [
        LedgerFilter(tenant=options["tenant"], model=options["model"], record=record, since=since, until=until)
        for record in records
    ]


def _records(options: dict[str, Any]) -> Sequence[bytes]:
    from onceserve_serving.idempotency.keys import Keys  # noqa: PLC0415
    from onceserve_serving.observation import GRPC_PATH, ROUTE, VERSION_ROUTE  # noqa: PLC0415

    keys = Keys(scope=options["scope"].encode())
    routes = (f"POST {ROUTE}", f"POST {VERSION_ROUTE}", GRPC_PATH)
    return [keys.record(options["key"], options["tenant"] or "", route) for route in routes]


def _list(url: str, wanted: Sequence[LedgerFilter], form: str) -> None:
    import asyncio  # noqa: PLC0415

    from onceserve_serving.idempotency import export, stores  # noqa: PLC0415

    if not url:
        raise InvalidSettingsError(f"--store (or {IDEMPOTENCY_STORE}): a URL postgresql://… was expected")
    asyncio.run(export.write(stores.open_ledger(url), wanted, form, sys.stdout))


def _text(given: str) -> str:
    # Bytes of an argument that are no text become surrogates.
    if not given.isprintable():
        raise argparse.ArgumentTypeError("expected printable text")
    return given


def _time(given: str) -> datetime:
    try:
        time = datetime.fromisoformat(given)
        return (time if time.tzinfo else time.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(
            "expected a time by ISO 8601, as 2026-11-20 or 2026-11-20T22:42:00+01:00; UTC if it names no zone"
        ) from None


def _record(given: str) -> bytes:
    try:
        record = bytes.fromhex(given)
    except ValueError:
        record = b""
    if len(record) != RECORD_BYTES:
        raise argparse.ArgumentTypeError(f"expected {2 * RECORD_BYTES} hex digits")
    return record


def _key(given: str) -> bytes:
    try:
        return key.parse([os.fsencode(given)]) or b""
    except InvalidKeyError as error:
        raise argparse.ArgumentTypeError(str(error)) from None

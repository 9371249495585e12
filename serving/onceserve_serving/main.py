"""The `onceserve` command."""

import argparse
import gc
import os
import signal
import sys
from typing import TYPE_CHECKING, Any, Final, NoReturn

from onceserve_contract.termination import Failure, FailureReason
from onceserve_serving import __version__, fatal
from onceserve_serving.auth import command as hash_key
from onceserve_serving.errors import InvalidSettingsError, StoreRefusedError
from onceserve_serving.idempotency import command as ledger

if TYPE_CHECKING:
    from onceserve_serving.settings import Settings

EXAMPLE: Final = """\
example:
  onceserve serve examples/breast-cancer/model.onnx
  curl http://localhost:8080/

Exit codes: 0 stopped by a signal, 2 bad settings, 3 the model cannot be served."""


METAVARS: Final = {"models": "NAME=URI", "repository_mode": "MODE"}


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line and exit."""
    # What imports make is no garbage, and looking through it all again and again takes a tenth of the start.
    gc.disable()
    # As the first process of a container, Python would ignore SIGTERM until the server handles it.
    signal.signal(signal.SIGTERM, _leave)
    options = vars(parser().parse_args(arguments))
    sys.exit(options.pop("run")(options))


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    top = argparse.ArgumentParser(
        prog="onceserve", description="Serves an ONNX model over the Open Inference Protocol."
    )
    top.add_argument("--version", action="version", version=f"onceserve {__version__}")
    commands = top.add_subparsers(metavar="COMMAND", required=True)
    _add_serve(commands)
    hash_key.add_to(commands)
    ledger.add_to(commands)
    return top


def _add_serve(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    from onceserve_serving.settings import Settings, option_of, variable_of  # noqa: PLC0415

    serve = commands.add_parser(
        "serve",
        help="serve a model",
        description="Serve a model. Every option can also be given by the environment variable named with it.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    serve.set_defaults(run=_serve)
    for name, field in Settings.model_fields.items():
        text = f"{_one_line(field.description)} [{_default(field.default)}{variable_of(name)}]"
        if name == "model_uri":
            serve.add_argument(name, metavar="MODEL", nargs="?", help=text)
        elif field.annotation is bool:
            serve.add_argument(option_of(name), dest=name, help=text, action=argparse.BooleanOptionalAction)
        else:
            action = "append" if name == "models" else "store"
            serve.add_argument(
                option_of(name), dest=name, metavar=METAVARS.get(name, _metavar(name)), help=text, action=action
            )


def _serve(options: dict[str, Any]) -> int:
    # A wrong option is told without waiting for onnxruntime.
    from onceserve_serving import settings  # noqa: PLC0415

    path = settings.termination_log_from_environment()
    try:
        configured = settings.read(options)
        path = settings.termination_log(configured.termination_log)
        return _run(configured)
    except InvalidSettingsError as error:
        print(f"onceserve: {error}", file=sys.stderr)  # noqa: T201
        fatal.leave(Failure(_reason(error), str(error)), path)
        return fatal.EXIT_SETTINGS


def _reason(error: InvalidSettingsError) -> FailureReason:
    return FailureReason.STORE_REFUSED if isinstance(error, StoreRefusedError) else FailureReason.INVALID_SETTINGS


def _run(settings: "Settings") -> int:
    from onceserve_serving import logs  # noqa: PLC0415

    # numpy would start a thread per processor for linear algebra, which nothing here uses.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    logs.configure(settings.log_level, settings.log_format)
    from onceserve_serving import serve  # noqa: PLC0415

    gc.freeze()
    gc.enable()
    return serve.run(settings)


def _leave(number: int, _: object) -> NoReturn:
    sys.exit(128 + number)


def _one_line(text: str | None) -> str:
    return " ".join((text or "").split()).replace("%", "%%")


def _default(value: object) -> str:
    return "" if value in ("", None, ()) or "Undefined" in repr(value) else f"default {value}; "


def _metavar(name: str) -> str:
    return name.rsplit("_", 1)[-1].upper()


if __name__ == "__main__":
    main()

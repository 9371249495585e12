import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from modelcheck import tlc, toolbox
from modelcheck.errors import ModelCheckError
from modelcheck.models import MODELS, Model
from modelcheck.tlc import Result

INTERRUPTED = 130
AT_ONCE = 2


def check_all(jar: Path) -> int:
    """Check every model and print a row for each; return how many were not as expected."""
    unexpected = 0
    print(f"{'MODEL':44}{'STATES':>9}{'DISTINCT':>10}{'SECONDS':>9}  VERDICT", flush=True)
    executor = ThreadPoolExecutor(AT_ONCE)
    try:
        results = executor.map(lambda model: tlc.run(model, jar), MODELS)
        for model, result in zip(MODELS, results, strict=True):
            print(row(model, result), flush=True)
            unexpected += not result.is_as_expected(model)
    finally:
        executor.shutdown(cancel_futures=True)
    return unexpected


def row(model: Model, result: Result) -> str:
    """Return one line of the table."""
    counts = f"{result.states:9}{result.distinct:10}{result.seconds:9.1f}"
    return f"{model.name:44}{counts}  {verdict(model, result)}"


def verdict(model: Model, result: Result) -> str:
    """Return what came out, and what should have where that differs."""
    found = f"violates {result.violated} after {result.steps} steps" if result.violated else "holds"
    if result.is_as_expected(model):
        return found
    expected = "to hold" if model.holds else f"to violate {model.properties[0]}"
    return f"{found}; EXPECTED {expected}"


def main() -> int:
    """Check all models; return the exit status."""
    try:
        toolbox.require("java")
        unexpected = check_all(toolbox.jar())
    except ModelCheckError as error:
        print(f"modelcheck: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("modelcheck: interrupted", file=sys.stderr)
        return INTERRUPTED
    if unexpected:
        print(f"modelcheck: {unexpected} of {len(MODELS)} models are not as expected", file=sys.stderr)
    return int(unexpected > 0)

"""The report of each suite, as Markdown."""

from benchmarks import limits as bounds
from benchmarks import table
from benchmarks.results import Results
from benchmarks.subjects import OURS


def limits(results: Results) -> str:
    """Return the report on our server beside its limits."""
    subjects = results.subjects()
    return _joined(
        table.preamble(results, "The server beside its limits"),
        "## Throughput, as shares of what bounds it",
        bounds.shares(results),
        "## Latency of a single request",
        bounds.added(results),
        "## Binary tensors",
        bounds.binary_over_json(results),
        "## Memory and start",
        table.memory(results, subjects),
        _details(results, subjects),
        "## gRPC, overload, memory over time",
    )


def peers(results: Results) -> str:
    """Return the report on our server beside other servers."""
    subjects = results.subjects()
    others = [name for name in subjects if name != OURS]
    return _joined(
        table.preamble(results, "The server beside its peers"),
        f"## How many requests {OURS} answers while the other answers one",
        "Connections in the head; JSON over JSON, binary over binary.",
        table.grid(results, others, table.times_ours(results)),
        "## Memory and start",
        table.memory(results, subjects),
        _details(results, subjects),
    )


def _details(results: Results, subjects: list[str]) -> str:
    return _joined(
        "## Absolute figures, of this machine only",
        "Requests a second; `!` marks loads in which some were refused or broke.",
        table.grid(results, subjects, table.absolute(results)),
        "Latency in milliseconds, p50–p99:",
        table.grid(results, subjects, table.latency(results)),
        "Not served:" if results.unserved else "",
        table.reasons(results),
        "Refused or broken:" if table.flaws(results) else "",
        table.flaws(results),
    )


def _joined(*parts: str) -> str:
    return "\n\n".join(part.strip() for part in parts if part.strip()) + "\n"

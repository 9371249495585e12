from pathlib import Path

import pytest

from benchmarks import readme, reports, results
from benchmarks.cli import RESULTS
from benchmarks.errors import BenchmarkError
from benchmarks.machine import Machine
from benchmarks.memory import Memory
from benchmarks.results import Case, Footprint, Results, Timing, Unserved
from benchmarks.wrk import Load

KEPT = RESULTS / "peers.json"


@pytest.fixture
def found() -> Results:
    machine = Machine("Some CPU", 2, 24_000, "6.1", "3.11.7", {"slow": "1.2"}, "abc", busy_before=0.02)
    made = Results("python -m benchmarks peers", machine, "today", rounds=1, seconds=3)
    for subject, form, rates in [
        ("onceserve", "json", (100, 400)),
        ("onceserve", "binary", (200, 800)),
        ("slow", "json", (50, 50)),
        ("slow, batching", "json", (10, 80)),
    ]:
        for connections, rate in zip((1, 16), rates, strict=True):
            made.timings.append(Timing(subject, Case("risk", form, connections), 1, Load(rate, 0, 0, 1, 2, 3)))
    made.footprints = [
        Footprint(subject, "risk", 1, ready, Memory(60, 90), Memory(61, rss))
        for subject, ready, rss in [("onceserve", 0.5, 91), ("slow", 4, 300), ("slow, batching", 9, 900)]
    ]
    made.unserved = [Unserved("absent", "risk", "", "not installed: no wheel")]
    return made


def test_the_readme_quotes_the_kept_run() -> None:
    text = readme.README.read_text()

    assert readme.update(text, KEPT) == text, "python -m benchmarks quote"


def test_the_kept_report_is_that_of_the_kept_run() -> None:
    reported = KEPT.with_suffix(".md")

    assert reported.exists() == KEPT.exists()
    assert not KEPT.exists() or reported.read_text() == reports.peers(results.load(KEPT)), "python -m benchmarks quote"


def test_each_figure_is_the_best_of_a_servers_settings(found: Results) -> None:
    assert [line for line in readme.summary(found).splitlines() if line.startswith("|")] == [
        "| server | tensors | risk (1 / 16) | RSS, MB | ready, s |",
        "| --- | ---: | ---: | ---: | ---: |",
        "| onceserve | json | 100 / 400 | 91 | 0.5 |",
        "| onceserve | binary | 200 / 800 | 91 | 0.5 |",
        "| slow | json | 50 / 80, 5× | 300 | 4.0 |",
        "| absent | json | not installed | – | – |",
    ]


def test_the_table_replaces_what_stood_between_the_marks(found: Results, tmp_path: Path) -> None:
    found.save(tmp_path / "peers.json")
    text = f"before\n{readme.BEGIN}old\n{readme.END}after\n"

    once = readme.update(text, tmp_path / "peers.json")

    assert once.startswith(f"before\n{readme.BEGIN}")
    assert once.endswith(f"{readme.END}after\n")
    assert readme.summary(found) in once
    assert "old" not in once
    assert readme.update(once, tmp_path / "peers.json") == once
    assert readme.update(once, tmp_path / "none.json") == text.replace("old\n", "")


def test_a_readme_without_marks_is_told(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match="needs the lines"):
        readme.update("no marks", tmp_path / "peers.json")


def test_a_busy_machine_is_told(found: Results) -> None:
    assert "Provisional" not in readme.summary(found)

    found.busy.append(0.3)

    assert "**Provisional: others took up to 30 % of the machine" in readme.summary(found)

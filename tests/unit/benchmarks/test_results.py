import json
from pathlib import Path

import pytest

from benchmarks import environments, results, rounds, subjects
from benchmarks.cli import CONNECTIONS
from benchmarks.errors import BenchmarkError, UnservedError
from benchmarks.machine import ROOT, Cores, Machine
from benchmarks.memory import Memory
from benchmarks.results import Case, Footprint, RawRun, Results, Timing, Unserved
from benchmarks.rounds import Plan
from benchmarks.wrk import Load


@pytest.fixture
def found() -> Results:
    machine = Machine("Some CPU", 2, 24_000, "6.1", "3.11.7", {"numpy": "2.4"}, "abc", busy_before=0.02)
    return Results(
        "python -m benchmarks peers",
        machine,
        "today",
        rounds=1,
        seconds=3,
        timings=[Timing("slow", Case("risk", "json", 1), 1, Load(10.5, 1, 2, 3, 4, 5))],
        unserved=[Unserved("absent", "risk", "", "not installed")],
        footprints=[Footprint("slow", "risk", 1, 0.5, Memory(60, 90), Memory(61, 91))],
        raw=[RawRun("risk", 1, 32, 1_000.0, 50.0)],
        busy=[0.1],
        extra={"memory": {"failed": "oh"}},
    )


def test_a_run_is_read_as_it_was_written(found: Results, tmp_path: Path) -> None:
    found.save(tmp_path / "run.json")

    assert results.load(tmp_path / "run.json") == found


def test_a_file_that_is_no_run_is_told(found: Results, tmp_path: Path) -> None:
    found.save(tmp_path / "run.json")
    raw = json.loads((tmp_path / "run.json").read_text())
    raw["timings"][0]["load"]["p50"] = "soon"
    (tmp_path / "run.json").write_text(json.dumps(raw))

    with pytest.raises(BenchmarkError, match=r"run.json is not what a run writes(.|\n)*timings.0.load.p50"):
        results.load(tmp_path / "run.json")


def test_what_is_not_served_is_noted_once(found: Results) -> None:
    found.note(Unserved("absent", "risk", "", "not installed"))
    found.note(Unserved("absent", "mlp", "", "not installed"))

    assert [one.model for one in found.unserved] == ["risk", "mlp"]


def test_what_is_kept_names_no_place_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.node", lambda: "some-host.example")
    plan = Plan(1, 1, 1, {}, {}, CONNECTIONS, Cores(0, 1), tmp_path)
    places = (
        f"{tmp_path}/log {environments.cache()}/x {ROOT}/benchmarks {Path.home()}/y on some-host.example, 192.0.2.2"
    )

    assert (
        rounds.impersonal(UnservedError(places), plan)
        == "SCRATCH/log ENVIRONMENTS/x ROOT/benchmarks HOME/y on HOST, HOST"
    )


def test_every_peer_is_pinned() -> None:
    versions = environments.versions(peer.directory for peer in subjects.PEERS)

    assert {"ray", "kserve", "nvidia-pytriton"} < versions.keys()
    for peer in subjects.PEERS:
        pins = (environments.PEERS / peer.directory / "requirements.txt").read_text().splitlines()
        assert all("==" in line for line in pins if not line.startswith("#")), peer.directory


def test_all_peers_run_the_same_onnxruntime() -> None:
    pins = {
        line
        for peer in subjects.PEERS
        for line in (environments.PEERS / peer.directory / "requirements.txt").read_text().splitlines()
        if line.startswith("onnxruntime==")
    }

    assert len(pins) == 1

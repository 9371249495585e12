import pytest

from benchmarks import limits, overload, table
from benchmarks.machine import Machine
from benchmarks.memory import Memory, Trend, trend
from benchmarks.results import Case, Footprint, RawRun, Results, Spread, Timing, Unserved, ratio, spread
from benchmarks.wrk import Load

ONE = Case("risk", "json", 1)
MANY = Case("risk", "json", 64)
BINARY = Case("risk", "binary", 1)


def load(good: float, refused: int = 0) -> Load:
    return Load(good, refused, 0, p50=200, p99=1000, most=2000)


@pytest.fixture
def results() -> Results:
    machine = Machine("Some CPU", 2, 24_000, "6.1", "3.11.7", {"numpy": "2.4"}, "abc", busy_before=0.4)
    made = Results("python -m benchmarks peers", machine, "today", rounds=2, seconds=3)
    for number, (ours, theirs) in enumerate([(100.0, 10.0), (90.0, 30.0)], 1):
        made.timings += [
            Timing("onceserve", ONE, number, load(ours)),
            Timing("slow", ONE, number, load(theirs)),
            Timing("onceserve", MANY, number, load(2 * ours)),
            Timing("onceserve", BINARY, number, load(3 * ours)),
            Timing("empty uvicorn app", ONE, number, load(4 * ours)),
        ]
    made.footprints = [Footprint("onceserve", "risk", 1, 0.5, Memory(60, 90), Memory(61, 91))]
    made.raw = [RawRun("risk", number, 1, 1_000.0, 50.0) for number in (1, 2)]
    made.unserved = [
        Unserved("slow", "risk", "binary", "answers 500: oh\nmore"),
        Unserved("absent", "risk", "", "not installed: no wheel"),
    ]
    return made


def test_a_ratio_pairs_rounds_so_that_a_slow_minute_cancels_out() -> None:
    assert ratio({1: 100.0, 2: 50.0}, {1: 10.0, 2: 5.0}) == Spread(10.0, 10.0, 10.0)
    assert ratio({1: 100.0}, {2: 10.0}) is None
    assert ratio({1: 100.0}, {1: 0.0}) is None


def test_a_spread_of_nothing_is_none() -> None:
    assert spread([]) is None
    assert spread([3, 1, 2]) == Spread(2, 1, 3)


def test_cells_list_connections_and_excuse_what_is_missing(results: Results) -> None:
    text = table.grid(results, ["slow", "absent"], table.times_ours(results))

    assert text.splitlines() == [
        "| server | risk json (1 / 64) | risk binary (1) |",
        "| --- | ---: | ---: |",
        "| slow | 6.5× (3–10) / – | not served |",
        "| absent | not installed | not installed |",
    ]


def test_refused_requests_are_marked(results: Results) -> None:
    results.timings = [Timing("onceserve", ONE, 1, load(10, refused=2))]

    assert "| onceserve | 10 ! |" in table.grid(results, ["onceserve"], table.absolute(results))


def test_ranges_are_shown_where_they_say_something() -> None:
    assert table.factor(Spread(10, 9.9, 10.1)) == "10×"
    assert table.factor(Spread(10, 8, 12)) == "10× (8–12)"
    assert table.factor(None) == "–"
    assert table.percent(Spread(0.5, 0.1, 0.9)) == "50 %"
    assert table.percent(Spread(0.034, 0, 1)) == "3.4 %"


def test_a_busy_machine_is_told(results: Results) -> None:
    assert "Provisional: others took up to 40 % of the machine" in table.preamble(results, "Title")


def test_reasons_are_cut_to_their_first_and_last_line(results: Results) -> None:
    assert table.reasons(results).splitlines() == [
        "- slow, risk binary: answers 500: oh … more",
        "- absent, risk: not installed: no wheel",
    ]


def test_flawed_loads_are_listed(results: Results) -> None:
    assert table.flaws(results) == ""

    results.timings.append(Timing("slow", MANY, 2, load(10, refused=2)))

    assert table.flaws(results) == "- slow, risk json, 64 connections, round 2: 2 refused, 0 broken\n"


def test_shares_of_both_limits(results: Results) -> None:
    assert "| risk json, 1 connection | 25 % | 9.5 % | – |" in limits.shares(results)


def test_added_latency_is_what_the_model_does_not_take(results: Results) -> None:
    assert "| risk json | 50 | 200 | 150 | 1000 |" in limits.added(results)


def test_binary_over_json(results: Results) -> None:
    assert "| risk | 3× | – |" in limits.binary_over_json(results)


def test_memory_of_each_server(results: Results) -> None:
    assert "| onceserve | 60 | 61 | 91 | 0.5 |" in table.memory(results, ["onceserve", "absent"])
    assert "| absent | – | – | – | – |" in table.memory(results, ["onceserve", "absent"])


def test_a_trend_looks_at_the_second_half_only() -> None:
    warming = [(0.0, 10.0), (1.0, 50.0), (2.0, 60.0), (3.0, 60.0), (4.0, 60.0)]

    assert trend(warming) == Trend(10.0, 60.0, 60.0, 0.0)
    assert trend([(0.0, 1.0), (60.0, 2.0), (120.0, 3.0)]).slope == 1.0


def test_an_overload_in_figures() -> None:
    outcome = {
        "seconds": 2.0,
        "sent": 500,
        "unsent": 100,
        "broken": 0,
        "good_in_time": 190,
        "statuses": {"200": 200, "429": 300},
        "good": [1.0, 2.0, 3.0, 4.0],
        "refused": [],
    }

    found = overload.summary("json", 100.0, 98.0, outcome, Trend(60, 61, 70, 0))

    assert (found.offered, found.goodput, found.goodput_of_peak) == (300.0, 95.0, 0.95)
    assert (found.good_p50, found.good_p99, found.refused_p99) == (2.0, 4.0, 0.0)
    assert "| offered, of the peak | 3.0× |" in overload.markdown(found)
    assert "| answers by status | 200: 200, 429: 300 |" in overload.markdown(found)

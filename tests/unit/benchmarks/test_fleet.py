import json
from collections import Counter
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from benchmarks.errors import BenchmarkError
from benchmarks.fleet import audit, report
from benchmarks.fleet.measure import Failover, Fleet, measure
from support.audit import position
from support.operator_process import USER


def entry(verb: str, resource: str, stage: str = "ResponseComplete", user: str = USER, **more: str) -> dict[str, Any]:
    return {"verb": verb, "stage": stage, "user": {"username": user}, "objectRef": {"resource": resource, **more}}


def fleet(resources: int) -> Fleet:
    return Fleet(
        resources=resources,
        created=60,
        changes=[0.2, 0.1, 0.9],
        steady_calls={"list pods": resources / 10, "get leases": 30, "update leases": 30, "patch services": 1},
        steady_cpu=resources**2,
        rss=100,
        restart=3,
        restart_cpu=2,
        restart_calls={"list pods": 2, "create leases": 1},
        failover=Failover(led=8, looked=2, first=9, others=[1.5, 0.25]),
    )


def test_each_call_of_the_operator_counts_once() -> None:
    entries = [
        entry("list", "pods"),
        entry("list", "pods", user="somebody"),
        entry("watch", "pods", "ResponseStarted"),
        entry("watch", "pods"),
        entry("patch", "modeldeployments", subresource="status"),
    ]
    found = audit.counted(entries)
    assert found == Counter({"list pods": 1, "watch pods": 1, "patch modeldeployments/status": 1})


def test_the_log_is_read_from_a_moment_on_and_without_its_half_written_line(tmp_path: Path) -> None:
    log = tmp_path / "audit.log"
    log.write_text(json.dumps(entry("list", "pods")) + "\n")
    since = position(log)
    with log.open("a") as file:
        version = {"verb": "get", "stage": "ResponseComplete", "user": {"username": USER}, "requestURI": "/version"}
        file.write(f'{json.dumps(entry("get", "leases"))}\n{json.dumps(version)}\n{{"verb": "li')
    assert audit.calls(log, since) == Counter({"get leases": 1})


def test_renewing_the_lease_is_no_write() -> None:
    assert audit.writes({"get leases": 1, "update leases": 30, "patch services": 2, "create events": 3}) == 5


def test_the_table_tells_how_each_figure_grows() -> None:
    lines = report.table([fleet(100), fleet(1000)]).splitlines()
    assert lines[0] == "| ModelDeployments | 100 | 1,000 | grows as |"
    assert "| lists, a minute | 10 | 100 | n^1.0 |" in lines
    assert "| processor time, a minute, s | 10,000 | 1,000,000 | n^2.0 |" in lines
    assert "| resident memory, MB | 100 | 100 | n^0.0 |" in lines
    assert "| writes in that time | 0 | 0 | – |" in lines
    assert "| created while the other looks at all, at worst, s | 1.5 | 1.5 | n^0.0 |" in lines


def test_the_picture_draws_each_figure_of_each_size() -> None:
    drawn = ElementTree.fromstring(report.picture([fleet(100), fleet(300), fleet(1000)]))
    lines = list(drawn.iter("{http://www.w3.org/2000/svg}polyline"))
    assert len(lines) == sum(bool(figure.panel) for figure in report.FIGURES)
    assert {len(line.attrib["points"].split()) for line in lines} == {3}


def test_sizes_must_grow(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match="--sizes must grow, not 300 100"):
        measure([300, 100], tmp_path)

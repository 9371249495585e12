from pathlib import Path

import pytest

from benchmarks import wrk
from benchmarks.errors import BenchmarkError

OUTPUT = """\
Running 1s test @ http://127.0.0.1:8080/
  1 threads and 64 connections
BENCHMARK {"requests":1000,"micros":2000000,"refused":100,"broken":3,"p50":500,"p99":9000,"most":12000}
"""


def test_refused_answers_are_no_throughput() -> None:
    load = wrk.parse(OUTPUT)

    assert load == wrk.Load(good_per_second=450.0, refused=100, broken=3, p50=500, p99=9000, most=12000)


def test_output_without_a_result_is_told() -> None:
    with pytest.raises(BenchmarkError, match="unable to connect"):
        wrk.parse("unable to connect to 127.0.0.1:1")


def test_the_script_posts_the_file_with_its_headers() -> None:
    script = wrk.lua(Path("/tmp/body"), {"Content-Type": "application/json", "X": 'a"b'})

    assert 'io.open("/tmp/body", "rb")' in script
    assert 'wrk.headers["Content-Type"] = "application/json"' in script
    assert 'wrk.headers["X"] = "a\\"b"' in script

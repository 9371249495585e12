import subprocess
import sys
from pathlib import Path

from benchmarks import processes

ROOT = Path(__file__).parents[3]

# In an interpreter of its own: who runs servers becomes the parent of all that they leave behind.
PROGRAM = """
import os, subprocess, sys
from pathlib import Path
from benchmarks import machine, memory, processes

stranger = subprocess.Popen(["sleep", "60"])
leaves = Path(sys.argv[1]) / "pids"
script = 'setsid sh -c "sleep 60 & echo \\$! > $0; echo up" & trap "" TERM; while :; do sleep 1; done'
server = ["sh", "-c", script, str(leaves)]
processes.GRACE = 0.2
core = machine.cores().server
with processes.running(server, core=core, log=Path(sys.argv[1]) / "log", environment={}) as running:
    running.wait(lambda: "up" in running.tail(), 10)
    orphan = int(leaves.read_text())
    family = running.family()
    assert running.process.pid in family and orphan in family, (family, orphan)
    assert stranger.pid not in family
    assert os.sched_getaffinity(orphan) == {core}
    assert memory.of(family).rss > memory.of([orphan]).rss > 0
assert not Path(f"/proc/{orphan}").exists()
assert running.process.returncode == -9
assert stranger.poll() is None
stranger.kill()
stranger.wait()
"""


def test_nothing_of_a_server_is_left_and_nothing_else_is_touched(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert done.returncode == 0, done.stderr


def test_waiting_tells_whether_it_came_in_time() -> None:
    answers = iter([False, False, True])

    assert processes.until(lambda: next(answers), 10)
    assert not processes.until(lambda: False, 0)

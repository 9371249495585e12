"""One answer for each key, byte for byte, whatever dies meanwhile: real store, real pods, real nodes, real retries."""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from contract.serving.process import COMMAND
from devcluster.cluster import Cluster
from e2e.conftest import SYSTEM
from onceserve_serving.idempotency.keys import Keys
from onceserve_serving.observation import ROUTE
from support import chart_store
from support.chart_store import ChartStore
from support.killing import kill
from support.loading import CLIENT_NODE
from support.node_database import NodePostgresql
from support.served import ROWS, Served, await_ready_pods, request_body
from support.waiting import eventually

CLIENT = Path(__file__).parents[1] / "support" / "retries.py"
CLIENTS = 8
ANSWERS = 10
"""Times that each key is answered at least."""
STORE_NODE, LOST_NODE = "node-2", "node-3"


@pytest.fixture(scope="module")
def store(installed: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChartStore]:
    directory, home = tmp_path_factory.mktemp("volume"), tmp_path_factory.mktemp("helm")
    with chart_store.enabled(installed, SYSTEM, STORE_NODE, directory, home) as started:
        yield started


@pytest.fixture
def keeping(served: Served, store: ChartStore) -> Served:
    """The example, which requires keys and keeps answers in the chart's store."""
    keep(served, "Redis", store.url)
    return served


@pytest.fixture
def database(installed: Cluster) -> Iterator[NodePostgresql]:
    with NodePostgresql(installed, CLIENT_NODE) as server:
        yield server


def keep(served: Served, kind: str, url: str) -> None:
    """Have the example require keys; a run takes a while, so that a kill meets some."""
    served.kubectl("create", "secret", "generic", "store", f"--from-literal=url={url}")
    store = {"type": kind, "urlFrom": {"secretKeyRef": {"name": "store", "key": "url"}}}
    idempotency = {"mode": "Required", "store": store, "lease": "5s", "retention": "1h"}
    served.patch({"idempotency": idempotency, "batching": {"maxDelay": "300ms"}})
    served.wait_complete()
    # Those on their way out, too: until the nodes have learnt of it they still get requests, and refuse keys.
    eventually(lambda: len(served.every_pod()) == 3, "the pods without a store are gone")


class Asked:
    """What the client has seen; filled in when it has ended."""

    report: dict[str, Any]

    def __getitem__(self, name: str) -> Any:
        return self.report[name]


@contextmanager
def retries(served: Served) -> Iterator[Asked]:
    """Ask and ask again for as long as the block takes, and then until each key has been answered often enough."""
    asked = Asked()
    with tempfile.NamedTemporaryFile("w") as bodies:
        json.dump([request_body([row]).decode() for row in ROWS], bodies)
        bodies.flush()
        arguments = [served.url, bodies.name, str(CLIENTS), str(ANSWERS)]
        command = served.cluster.exec_command(CLIENT_NODE, [sys.executable, str(CLIENT), *arguments])
        process = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE)
        try:
            yield asked
            process.terminate()
            output, _ = process.communicate(timeout=240)
        finally:
            process.kill()
            process.wait()
    asked.report = json.loads(output)


def kill_one(served: Served) -> None:
    """Kill a ready server; return when as many answer as before."""
    victim = served.ready_pods()[0]
    assert kill(served.get(f"pod/{victim}"))
    eventually(lambda: victim not in served.ready_pods(), f"{victim} is seen dead")
    await_ready_pods(served, 3)


def kill_all(served: Served) -> None:
    """Kill all servers at once; return when all answer again."""
    for pod in served.pods():
        assert kill(pod)
    eventually(lambda: not served.ready_pods(), "all are seen dead")
    await_ready_pods(served, 3)


def lose_a_node(served: Served) -> None:
    """Stop a node, wait until its pods have been replaced elsewhere, and bring it back."""
    served.cluster.stop_node(LOST_NODE)
    eventually(lambda: LOST_NODE not in nodes(served), "pods leave the node")
    await_ready_pods(served, 3)
    served.cluster.start_node(LOST_NODE)


def nodes(served: Served) -> set[str]:
    return {pod["spec"]["nodeName"] for pod in served.pods() if "nodeName" in pod["spec"]}


def change_the_model(served: Served, *meanwhile: Any) -> None:
    """Roll out a model with other answers."""
    served.patch({"model": {"uri": "configmap://breast-cancer-v2/model.onnx", "sha256": None}})
    for fault in meanwhile:
        fault()
    served.wait_complete()
    eventually(lambda: len(served.pods()) == 3, "the old pods are gone")


def test_each_key_has_one_answer_whatever_dies(keeping: Served, store: ChartStore) -> None:
    started = time.monotonic()
    with retries(keeping) as asked:
        time.sleep(2)
        kill_one(keeping)
        store.kill()
        kill_one(keeping)
        change_the_model(keeping, lambda: kill(keeping.pods()[0]), store.replace)
        lose_a_node(keeping)
        kill_all(keeping)
        time.sleep(2)
    keys, attempts, running = store.records()
    print(f"{time.monotonic() - started:.0f} s; store: {keys} keys, {attempts} attempts; client: {asked.report}")
    assert asked["divergent"] == {}
    assert asked["lost"] == 0
    assert set(asked["statuses"]) == {"200"}
    assert asked["fewest"] >= ANSWERS
    assert (keys, running) == (asked["keys"], 0)
    # Had nothing failed and nobody taken over, or had one revision answered all, nothing would have been shown.
    assert asked["failures"]
    assert attempts > keys
    assert len(asked["versions"]) == 2


def ledger(served: Served, url: str) -> list[dict[str, Any]]:
    """Return what `onceserve ledger` lists, as people run it from a node."""
    listed = served.cluster.exec(CLIENT_NODE, [COMMAND, "ledger", "--store", url, "--format", "jsonl"])
    assert (listed.returncode, listed.stderr) == (0, "")
    return [json.loads(line) for line in listed.stdout.splitlines()]


def test_each_key_has_one_row_in_the_ledger_whatever_dies(served: Served, database: NodePostgresql) -> None:
    started = time.monotonic()
    keep(served, "PostgreSQL", database.url)
    with retries(served) as asked:
        time.sleep(2)
        kill_one(served)
        kill_one(served)
        kill_all(served)
        time.sleep(1)
    rows = ledger(served, database.url)
    again = sum(row["attempt"] > 1 for row in rows)
    print(f"{time.monotonic() - started:.0f} s; {len(rows)} rows, {again} of later attempts; client: {asked.report}")
    assert asked["divergent"] == {}
    assert asked["lost"] == 0
    assert set(asked["statuses"]) == {"200"}
    assert asked["fewest"] >= ANSWERS
    keys = Keys(scope=f"{served.namespace}/{served.name}".encode())
    records = [keys.record(f"key-{number}".encode(), "", f"POST {ROUTE}").hex() for number in range(asked["keys"])]
    assert sorted(row["record"] for row in rows) == sorted(records)
    # Had no kill met a run, nothing would have been shown.
    assert asked["failures"]
    assert again


def test_a_store_that_forgets_is_refused_in_words(keeping: Served, store: ChartStore) -> None:
    def reason() -> str:
        return str(keeping.condition("IdempotencyStoreReady").get("reason"))

    assert reason() == "NotRefused"
    store.redis("config", "set", "maxmemory-policy", "allkeys-lru")
    try:
        keeping.patch({"idempotency": {"lease": "6s"}})
        eventually(lambda: reason() == "StoreRefused", "the store is refused")
        ready = keeping.condition("Ready")
        assert "maxmemory-policy is allkeys-lru, which forgets answers; noeviction was expected" in ready["message"]
        assert keeping.condition("Available")["status"] == "True"
    finally:
        store.redis("config", "set", "maxmemory-policy", "noeviction")
    eventually(lambda: reason() == "NotRefused", "the store is accepted")

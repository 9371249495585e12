"""Several operators on one real API server: one leads, whatever happens to it, to the API server or to the lease."""

import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes.config import new_client_from_config

from devcluster.cluster import Cluster, control_plane
from onceserve_operator.election import Terms
from support.api_server import Api
from support.audit import entries
from support.operator_process import NAMESPACE, SERVICE_ACCOUNT, OperatorProcess, install_rights
from support.outage import API_SERVER, ETCD, bring_back, lose
from support.rollouts import OWNED, Deployed
from support.waiting import eventually, steadily

CRD = Path(__file__).parents[2] / "crds" / "modeldeployments.onceserve.dev.yaml"
SPEC: dict[str, Any] = {"replicas": 2, "model": {"uri": "https://models.example/a.onnx"}}
FAILED, LOST = 1, 3
FAILOVER = 15.0
HANDOVER = Terms().duration - 2
"""Seconds within which another has the lease that is left to it: it does not wait until it has run out."""
RESYNC = 1.0
ENDED = 15.0
"""Seconds within which a process is gone that was told to stop; others work long before."""
NOTICED = 5.0
"""Seconds within which a leader looks at its lease again, with some to spare."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A control plane of its own, since it is restarted."""
    with control_plane("leadership", tmp_path_factory.mktemp("leadership") / "cluster") as started:
        started.define(CRD)
        yield started


@pytest.fixture(scope="module")
def api(cluster: Cluster) -> Iterator[Api]:
    with new_client_from_config(str(cluster.kubeconfig)) as client:
        yield Api(client)


@pytest.fixture(scope="module")
def kubeconfig(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install_rights(cluster, tmp_path_factory.mktemp("operator"))


@dataclass
class Pair:
    """Two operators with the same lease."""

    api: Api
    operators: list[OperatorProcess]
    was_away: bool = False
    lease: str = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases/{SERVICE_ACCOUNT}"

    def running(self) -> list[OperatorProcess]:
        return [each for each in self.operators if each.exit_code() is None]

    def leaders(self) -> list[OperatorProcess]:
        return [each for each in self.running() if each.metric("onceserve_operator_leader") == 1]

    def leader(self) -> OperatorProcess:
        [leader] = eventually(self.leaders, "a leader", FAILOVER)
        return leader

    def other(self, than: OperatorProcess) -> OperatorProcess:
        return next(each for each in self.operators if each is not than)

    def await_handover(self, before: OperatorProcess) -> None:
        """See the lease go to the other one at once."""
        began = time.monotonic()
        eventually(lambda: self.holder() == self.other(before).identity(), "handed over", HANDOVER)
        print(f"handed over after {time.monotonic() - began:.1f} s")

    def holder(self) -> str:
        return str(self.api.get(self.lease).body.get("spec", {}).get("holderIdentity", ""))

    def end(self) -> None:
        """All that run end well, and had nothing to complain of but of an API server that was away."""
        running = self.running()
        assert [each.stop() for each in running] == [0] * len(running)
        assert self.was_away or [each.complaints() for each in running] == [[]] * len(running)


def pair_of(api: Api, kubeconfig: Path, directory: Path, **extra: str) -> Iterator[Pair]:
    operators = [OperatorProcess(kubeconfig, directory / f"{name}.log", RESYNC, extra) for name in ("one", "two")]
    started = Pair(api, operators, lease=Pair.lease.replace(SERVICE_ACCOUNT, kubeconfig.stem))
    try:
        for operator in operators:
            operator.start()
        yield started
        started.end()
    finally:
        for operator in operators:
            print(operator.log.read_text())
            operator.stop(signal.SIGKILL)


@pytest.fixture
def pair(api: Api, kubeconfig: Path, tmp_path: Path) -> Iterator[Pair]:
    yield from pair_of(api, kubeconfig, tmp_path)


_numbers = count(1)


@pytest.fixture
def namespace(api: Api) -> Iterator[str]:
    name = f"test-{next(_numbers)}"
    api.create("/api/v1/namespaces", {"metadata": {"name": name}})
    yield name
    api.delete(f"/api/v1/namespaces/{name}")


def works(api: Api, namespace: str, name: str) -> None:
    """See that a new ModelDeployment is reconciled, if need be by who takes over for one that is lost."""
    began = time.monotonic()
    Deployed.create(api, namespace, SPEC, name).await_target()
    took = time.monotonic() - began
    print(f"{name}: reconciled after {took:.1f} s")
    assert took < FAILOVER


def code_at_end(operator: OperatorProcess) -> int | None:
    """Return the exit code of one that has been told to stop, when it has ended."""
    eventually(lambda: operator.exit_code() is not None, "it ends", ENDED)
    return operator.exit_code()


def writes(cluster: Cluster, identity: str, since: float = 0) -> list[str]:
    """Return what one operator has written since a time, its lease aside."""
    return [
        f"{entry['verb']} {entry['objectRef']['resource']} {entry['requestReceivedTimestamp']}"
        for entry in entries(cluster.audit_log)
        if identity in entry.get("userAgent", "")
        and entry["verb"] not in {"get", "list", "watch"}
        and entry["objectRef"]["resource"] != "leases"
        and datetime.fromisoformat(entry["requestReceivedTimestamp"]).timestamp() >= since
    ]


def test_one_works_and_the_other_stands_by(pair: Pair, api: Api, namespace: str, cluster: Cluster) -> None:
    works(api, namespace, "risk")
    leader = pair.leader()
    standby = pair.other(leader)
    assert pair.holder() == leader.identity()
    assert (leader.is_ready(), standby.is_ready()) == (True, True)
    assert standby.probe("healthz") == (200, "ok\n")
    assert standby.metric("onceserve_operator_api_reachable") == 1
    assert writes(cluster, leader.identity())
    assert writes(cluster, standby.identity()) == []


def test_a_leader_that_is_killed_is_replaced(pair: Pair, api: Api, namespace: str) -> None:
    leader = pair.leader()
    leader.stop(signal.SIGKILL)
    works(api, namespace, "killed")
    assert pair.leader() is pair.other(leader)


def test_a_leader_that_was_stopped_ends_and_writes_nothing(
    pair: Pair, api: Api, namespace: str, cluster: Cluster
) -> None:
    works(api, namespace, "before")
    leader = pair.leader()
    stopped = time.time()
    leader.send(signal.SIGSTOP)
    works(api, namespace, "meanwhile")
    # There is much that it would like to do.
    for number in range(20):
        Deployed.create(api, namespace, SPEC, f"more-{number}")
    time.sleep(max(0.0, stopped + 17 - time.time()))
    assert pair.holder() == pair.other(leader).identity()
    leader.send(signal.SIGCONT)
    assert eventually(leader.exit_code, "it ends", 2) == LOST
    # What had left it before may arrive a moment after.
    assert writes(cluster, leader.identity(), since=stopped + 1) == []
    assert f"the process ends, since the lease {NAMESPACE}/{SERVICE_ACCOUNT} is lost" in leader.complaints()[0]
    assert len(leader.complaints()) == 1
    assert pair.leaders() == [pair.other(leader)]


def test_a_leader_that_is_told_to_stop_hands_over_at_once(pair: Pair, api: Api, namespace: str) -> None:
    leader = pair.leader()
    leader.send(signal.SIGTERM)
    pair.await_handover(leader)
    works(api, namespace, "stopped")
    assert code_at_end(leader) == 0
    assert pair.leaders() == [pair.other(leader)]


def test_a_leader_that_stops_in_the_middle_of_work_hands_over_at_once(
    pair: Pair, api: Api, namespace: str, cluster: Cluster
) -> None:
    leader, names = pair.leader(), [f"busy-{number}" for number in range(30)]
    deployed = [Deployed.create(api, namespace, SPEC, name) for name in names]
    leader.send(signal.SIGTERM)
    pair.await_handover(leader)
    taken = time.time()
    for each in deployed:
        each.await_target()
    assert writes(cluster, leader.identity(), since=taken) == []


def test_a_lease_that_is_deleted_is_made_again_by_its_leader(pair: Pair, api: Api) -> None:
    leader = pair.leader()
    assert api.delete(pair.lease).accepted
    eventually(lambda: pair.holder() == leader.identity(), "it is back", NOTICED)
    steadily(lambda: pair.leaders() == [leader], "no other leads", 3)


def test_a_leader_whose_lease_was_given_away_ends(pair: Pair, api: Api, namespace: str) -> None:
    leader = pair.leader()
    assert api.merge(pair.lease, {"spec": {"holderIdentity": "somebody"}}).accepted
    code = eventually(leader.exit_code, "it ends", NOTICED)
    assert (code, len(leader.complaints())) == (LOST, 1)
    assert "somebody holds it" in leader.complaints()[0]
    works(api, namespace, "given-away")
    assert pair.leaders() == [pair.other(leader)]


def test_a_leader_whose_watch_fails_hands_over_and_says_why(
    pair: Pair, api: Api, namespace: str, cluster: Cluster
) -> None:
    leader = pair.leader()
    cluster.kubectl("delete", "-f", str(CRD))
    try:
        assert eventually(leader.exit_code, "it ends", FAILOVER) == FAILED
    finally:
        cluster.define(CRD)
    assert leader.messages()[-1].startswith("the process ends, since the watch has failed: APINotFoundError: 404 ")
    works(api, namespace, "after")
    assert pair.leaders() == [pair.other(leader)]


@pytest.mark.parametrize(
    ("lost", "seconds"),
    [((API_SERVER,), 0), ((API_SERVER, ETCD), 12)],
    ids=["shortly", "with etcd, longer than the lease"],
)
def test_an_api_server_that_is_away_for_a_time(
    pair: Pair, namespace: str, cluster: Cluster, lost: tuple[str, ...], seconds: float
) -> None:
    api = pair.api
    works(api, namespace, "before")
    before = children(api, namespace)
    pair.was_away = True
    lose(cluster, *lost)
    away = time.monotonic()
    time.sleep(seconds)
    if seconds:
        for each in pair.running():
            assert each.metric("onceserve_operator_api_reachable") == 0
            assert each.probe("readyz")[0] == 503
        assert any(
            "the API server does not answer" in message for each in pair.operators for message in each.messages()
        )
    bring_back(cluster)
    print(f"the API server was away for {time.monotonic() - away:.1f} s")
    for each in pair.operators:
        # As the kubelet does.
        if each.exit_code() is not None:
            assert each.exit_code() == LOST
            each.start()
    works(api, namespace, "after")
    eventually(lambda: len(pair.leaders()) == 1, "one leader")
    assert {name: uid for name, uid in children(api, namespace).items() if name in before} == before
    eventually(lambda: all(each.metric("onceserve_operator_api_reachable") == 1 for each in pair.running()), "reached")


def children(api: Api, namespace: str) -> dict[str, str]:
    """Return the uid of every child, by kind and name."""
    found = {plural: Deployed(api, namespace, "before").children(plural) for plural in OWNED}
    return {f"{kind}/{each['metadata']['name']}": each["metadata"]["uid"] for kind in found for each in found[kind]}


def test_operators_that_are_limited_to_namespaces_stand_in_for_each_other(
    cluster: Cluster, api: Api, namespace: str, tmp_path: Path
) -> None:
    values = yaml.safe_dump({"watchNamespaces": [namespace], "rbac": {"aggregate": False}})
    kubeconfig = install_rights(cluster, tmp_path, release="limited", values=values)
    for pair in pair_of(api, kubeconfig, tmp_path, ONCESERVE_OPERATOR_NAMESPACES=namespace):
        works(api, namespace, "first")
        leader = pair.leader()
        leader.send(signal.SIGTERM)
        pair.await_handover(leader)
        works(api, namespace, "second")
        assert code_at_end(leader) == 0
        assert pair.leader() is pair.other(leader)

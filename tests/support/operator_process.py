"""The operator as a real process, with the rights that the chart gives it and no others."""

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from prometheus_client.parser import text_string_to_metric_families

from devcluster.cluster import Cluster, free_ports
from support.waiting import eventually

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "onceserve"
NAMESPACE = "onceserve-system"
SERVICE_ACCOUNT = "onceserve-operator"
USER = f"system:serviceaccount:{NAMESPACE}:{SERVICE_ACCOUNT}"
IMAGE = "onceserve/server:integration"
SECRET = b"the secret of every operator in these tests"


@dataclass
class OperatorProcess:
    """One operator; `start` and `stop` it as often as a test wants."""

    kubeconfig: Path
    log: Path
    resync: float = 60.0
    extra: dict[str, str] = field(default_factory=dict)
    _process: subprocess.Popen[bytes] | None = None
    _ports: list[int] = field(default_factory=lambda: free_ports(2))

    def start(self) -> None:
        """Start, and return when the operator watches, or stands by while another leads."""
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": f"{ROOT / 'operator'}:{ROOT / 'serving'}",
            "PYTHONWARNINGS": "error",
            "KUBECONFIG": str(self.kubeconfig),
            "ONCESERVE_OPERATOR_SERVER_IMAGE": IMAGE,
            "ONCESERVE_OPERATOR_VERIFICATION_SECRET_FILE": str(self._secret()),
            "ONCESERVE_OPERATOR_LEASE_NAMESPACE": NAMESPACE,
            # The chart names the Lease as it names the account.
            "ONCESERVE_OPERATOR_LEASE_NAME": self.kubeconfig.stem,
            "ONCESERVE_OPERATOR_RESYNC": str(self.resync),
            "ONCESERVE_OPERATOR_METRICS_PORT": str(self._ports[0]),
            "ONCESERVE_OPERATOR_HEALTH_PORT": str(self._ports[1]),
            **self.extra,
        }
        command = [sys.executable, "-m", "onceserve_operator.main"]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        eventually(self.is_ready, "the operator is ready")

    @property
    def pid(self) -> int:
        """Its process."""
        assert self._process is not None
        return self._process.pid

    def _secret(self) -> Path:
        path = self.log.with_suffix(".secret")
        path.write_bytes(SECRET)
        return path

    def is_ready(self) -> bool:
        """Say whether /readyz is content; fail with the log where the process has ended."""
        assert self.exit_code() is None, self.log.read_text()
        return self.probe("readyz")[0] == 200

    def probe(self, path: str) -> tuple[int, str]:
        """Return status and words of a probe; 0 where nobody answers."""
        url = f"http://127.0.0.1:{self._ports[1]}/{path}"
        try:
            with urllib.request.urlopen(url, timeout=2) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def exit_code(self) -> int | None:
        """Return how the process ended, None while it runs."""
        assert self._process is not None
        return self._process.poll()

    def send(self, number: signal.Signals) -> None:
        """Send a signal and wait for nothing."""
        assert self._process is not None
        self._process.send_signal(number)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End it; return the exit code."""
        assert self._process is not None
        self._process.send_signal(number)
        try:
            return self._process.wait(timeout=15)
        finally:
            self._process.kill()
            self._process.wait()

    def metric(self, name: str, /, **labels: str) -> float:
        """Return a metric's value, summed over the labels that are not given."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self._ports[0]}/metrics", timeout=5) as answer:
            families = list(text_string_to_metric_families(answer.read().decode()))
        samples = (sample for family in families for sample in family.samples if sample.name == name)
        return sum(sample.value for sample in samples if labels.items() <= sample.labels.items())

    def messages(self) -> list[str]:
        """Return what it has logged so far."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [json.loads(line)["message"] for line in lines if line.startswith("{")]

    def identity(self) -> str:
        """Return by which name it stands for election since its last start."""
        return next(message.split()[0] for message in reversed(self.messages()) if " stands by for " in message)

    def complaints(self) -> list[str]:
        """Return what it logged as error, or did not log as JSON at all."""
        lines = self.log.read_text().splitlines()
        return [line for line in lines if not line.startswith("{") or json.loads(line)["level"] == "ERROR"]


def install_rights(cluster: Cluster, directory: Path, *, release: str = "onceserve", values: str = "{}") -> Path:
    """Install the chart's roles, and return a kubeconfig of the operator's ServiceAccount."""
    helm = str(cluster.binary("helm"))
    command = [helm, "template", release, str(CHART), "--namespace", NAMESPACE, "--values", "-"]
    rendered = subprocess.run(command, input=values, check=True, capture_output=True, text=True).stdout
    kinds = {"ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"}
    rights = [each for each in yaml.safe_load_all(rendered) if each and each["kind"] in kinds]
    account = next(each["metadata"]["name"] for each in rights if each["kind"] == "ServiceAccount")
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    cluster.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all([namespace, *rights]))
    token = cluster.kubectl("create", "token", account, "--namespace", NAMESPACE).strip()
    config: dict[str, Any] = yaml.safe_load(cluster.kubeconfig.read_text())
    config["users"] = [{"name": config["contexts"][0]["context"]["user"], "user": {"token": token}}]
    path = directory / f"{account}.kubeconfig"
    path.write_text(yaml.safe_dump(config))
    return path


@contextmanager
def running_operator(
    kubeconfig: Path, directory: Path, resync: float = 60.0, **extra: str
) -> Iterator[OperatorProcess]:
    """Have an operator for the duration of a block; it must end well and have had nothing to complain of."""
    operator = OperatorProcess(kubeconfig, directory / "operator.log", resync, extra)
    operator.start()
    try:
        yield operator
    except BaseException:
        print(operator.log.read_text())
        operator.stop()
        raise
    assert operator.stop() == 0, operator.log.read_text()
    assert operator.complaints() == [], operator.complaints()

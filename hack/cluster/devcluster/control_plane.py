"""etcd, the API server, the controllers and the scheduler."""

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from devcluster import addresses, binaries, configs
from devcluster.api import Api
from devcluster.layout import Layout
from devcluster.pki import Store
from devcluster.processes import Process

CA = "ca"
FRONT_PROXY_CA = "front-proxy-ca"
ADMIN = "admin"
COMPONENTS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
CERTIFIED_USERS = {
    ADMIN: ("kubernetes-admin", ["system:masters"]),
    "kubelet-client": ("kube-apiserver-kubelet-client", ["system:masters"]),
    "kube-controller-manager": ("system:kube-controller-manager", []),
    "kube-scheduler": ("system:kube-scheduler", []),
    "kube-proxy": ("system:kube-proxy", ["system:node-proxier"]),
}
START_SECONDS = 60
# The default of 20 requests a second makes the controllers' start last five seconds.
RATES = ("--kube-api-qps=1000", "--kube-api-burst=1000")


@dataclass(frozen=True)
class Endpoints:
    """Where the control plane listens."""

    etcd: int
    etcd_peer: int
    api_address: str
    api_port: int
    """Inside the fabric; the same as the host's where there is no fabric."""
    host_port: int
    """On the loopback of the host."""


@dataclass(frozen=True)
class ControlPlane:
    """The control plane of one cluster; `enter` puts a command where it runs."""

    name: str
    layout: Layout
    endpoints: Endpoints
    enter: Callable[[Sequence[str | Path]], list[str | Path]]

    @property
    def store(self) -> Store:
        """The cluster's certificates."""
        return Store(self.layout.pki)

    @property
    def api(self) -> Api:
        """A client of the API server."""
        store = self.store
        return Api(self.endpoints.host_port, store.certificate(CA), store.certificate(ADMIN), store.key(ADMIN))

    def process(self, component: str) -> Process:
        """Return the process of a component."""
        return Process(component, self.layout.processes / component, self.layout.logs / f"{component}.log")

    def prepare(self) -> None:
        """Write certificates and configuration."""
        self._issue()
        configs.write_yaml(self.layout.config / "audit-policy.yaml", configs.AUDIT_POLICY)
        for component in ("kube-controller-manager", "kube-scheduler"):
            self.write_kubeconfig(self.kubeconfig(component), component, self._local_server)
        self.write_kubeconfig(self.layout.kubeconfig, ADMIN, f"https://127.0.0.1:{self.endpoints.host_port}")

    def kubeconfig(self, component: str) -> Path:
        """Return the path of a component's kubeconfig."""
        return self.layout.config / f"{component}.kubeconfig"

    def write_kubeconfig(self, path: Path, pair: str, server: str) -> None:
        """Write a kubeconfig for the user of a pair."""
        files = (self.store.certificate(CA), self.store.certificate(pair), self.store.key(pair))
        encoded = [base64.b64encode(file.read_bytes()).decode() for file in files]
        configs.write_yaml(path, configs.kubeconfig(self.name, server, *encoded), mode=0o600)

    @property
    def _local_server(self) -> str:
        return f"https://{self.endpoints.api_address}:{self.endpoints.api_port}"

    def _issue(self) -> None:
        store = self.store
        for file, (user, groups) in CERTIFIED_USERS.items():
            store.pair(file, CA, user, groups)
        store.pair("front-proxy-client", FRONT_PROXY_CA, "front-proxy-client")
        store.pair("kube-apiserver", CA, "kube-apiserver", hosts=self._api_hosts())
        store.signing_key("service-accounts")

    def _api_hosts(self) -> list[str]:
        service = ["kubernetes", "kubernetes.default", "kubernetes.default.svc"]
        qualified = f"kubernetes.default.svc.{addresses.CLUSTER_DOMAIN}"
        literals = ["127.0.0.1", str(addresses.CONTROL_PLANE), str(addresses.API_SERVICE)]
        return ["localhost", *service, qualified, *literals]

    def start_api(self) -> None:
        """Start etcd and the API server, as far as they do not run, without waiting for the latter."""
        etcd, server = self.process("etcd"), self.process("kube-apiserver")
        if not etcd.is_running:
            etcd.start(self.enter([binaries.find_asset("etcd"), *self._etcd_flags()]))
        if not server.is_running:
            server.start(self.enter([binaries.find_asset("kube-apiserver"), *self._api_flags()]))

    def wait_api(self) -> None:
        """Wait until the API server is ready."""
        self.process("kube-apiserver").wait_ready(self._serves, START_SECONDS)

    def _serves(self) -> bool:
        # Without etcd the API server only waits.
        if not self.process("etcd").is_running:
            raise self.process("etcd").failure("ended")
        return self.api.is_ready()

    def start_controllers(self) -> None:
        """Start the controllers and the scheduler, as far as they do not run."""
        flags = {"kube-controller-manager": self._controller_flags(), "kube-scheduler": self._scheduler_flags()}
        for component, values in flags.items():
            process = self.process(component)
            if not process.is_running:
                process.start(self.enter([binaries.find_asset(component), *values]))

    def wait_controllers(self) -> None:
        """Wait until the controllers act: the first thing that every namespace gets is a service account."""
        account = "/api/v1/namespaces/default/serviceaccounts/default"
        self.process("kube-controller-manager").wait_ready(lambda: self.api.answers(account), START_SECONDS)

    def _etcd_flags(self) -> list[str]:
        client = f"http://127.0.0.1:{self.endpoints.etcd}"
        peer = f"http://127.0.0.1:{self.endpoints.etcd_peer}"
        return [
            f"--data-dir={self.layout.etcd}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            # The cluster need not outlive the machine.
            "--unsafe-no-fsync",
            "--log-level=warn",
        ]

    def _api_flags(self) -> list[str]:
        store = self.store
        keys = store.key("service-accounts")
        return [
            f"--etcd-servers=http://127.0.0.1:{self.endpoints.etcd}",
            f"--bind-address={'127.0.0.1' if self._is_host_local else '0.0.0.0'}",  # noqa: S104
            f"--advertise-address={self.endpoints.api_address}",
            # A loopback address is no endpoint that a Service may have.
            f"--endpoint-reconciler-type={'none' if self._is_host_local else 'lease'}",
            f"--secure-port={self.endpoints.api_port}",
            f"--service-cluster-ip-range={addresses.SERVICE_NETWORK}",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--allow-privileged",
            # A node's name is in no DNS.
            "--kubelet-preferred-address-types=InternalIP",
            # There is no kube-proxy beside the API server, but routes to the pods.
            "--enable-aggregator-routing=true",
            "--default-not-ready-toleration-seconds=5",
            "--default-unreachable-toleration-seconds=5",
            f"--client-ca-file={store.certificate(CA)}",
            f"--tls-cert-file={store.certificate('kube-apiserver')}",
            f"--tls-private-key-file={store.key('kube-apiserver')}",
            f"--kubelet-certificate-authority={store.certificate(CA)}",
            f"--kubelet-client-certificate={store.certificate('kubelet-client')}",
            f"--kubelet-client-key={store.key('kubelet-client')}",
            f"--service-account-key-file={keys}",
            f"--service-account-signing-key-file={keys}",
            f"--service-account-issuer=https://kubernetes.default.svc.{addresses.CLUSTER_DOMAIN}",
            *self._front_proxy_flags(),
            f"--audit-policy-file={self.layout.config / 'audit-policy.yaml'}",
            f"--audit-log-path={self.layout.audit_log}",
        ]

    @property
    def _is_host_local(self) -> bool:
        return self.endpoints.api_address == "127.0.0.1"

    def _front_proxy_flags(self) -> list[str]:
        store = self.store
        return [
            f"--requestheader-client-ca-file={store.certificate(FRONT_PROXY_CA)}",
            "--requestheader-allowed-names=front-proxy-client",
            "--requestheader-username-headers=X-Remote-User",
            "--requestheader-group-headers=X-Remote-Group",
            "--requestheader-extra-headers-prefix=X-Remote-Extra-",
            f"--proxy-client-cert-file={store.certificate('front-proxy-client')}",
            f"--proxy-client-key-file={store.key('front-proxy-client')}",
        ]

    def _controller_flags(self) -> list[str]:
        store = self.store
        return [
            *self._client_flags("kube-controller-manager"),
            "--use-service-account-credentials",
            f"--root-ca-file={store.certificate(CA)}",
            f"--service-account-private-key-file={store.key('service-accounts')}",
            f"--cluster-signing-cert-file={store.certificate(CA)}",
            f"--cluster-signing-key-file={store.key(CA)}",
            # A lost node is noticed within seconds.
            "--node-monitor-grace-period=10s",
            "--node-monitor-period=1s",
            # By default a HorizontalPodAutoscaler waits 5 minutes before it takes pods away.
            "--horizontal-pod-autoscaler-sync-period=5s",
            "--horizontal-pod-autoscaler-downscale-stabilization=15s",
        ]

    def _scheduler_flags(self) -> list[str]:
        return self._client_flags("kube-scheduler")

    def _client_flags(self, component: str) -> list[str]:
        kubeconfig = self.kubeconfig(component)
        authentication = [f"--authentication-kubeconfig={kubeconfig}", f"--authorization-kubeconfig={kubeconfig}"]
        # One of each: nobody to lead. No port: nobody to serve, and clusters side by side share the loopback.
        return [f"--kubeconfig={kubeconfig}", *authentication, *RATES, "--leader-elect=false", "--secure-port=0"]

import base64
from pathlib import Path

import pytest
import yaml
from cryptography import x509

from devcluster import addresses, configs, metrics_server
from devcluster.cluster import COLLECTIONS, Spec, free_ports
from devcluster.layout import default_state_dir
from devcluster.pki import Store


def test_dns_serves_where_the_kubelets_send_pods() -> None:
    [service] = [manifest for manifest in configs.dns_manifests() if manifest["kind"] == "Service"]
    assert [service["spec"]["clusterIP"]] == configs.kubelet("/run/node", "/pods")["clusterDNS"]


def test_no_placeholder_is_left(tmp_path: Path) -> None:
    assert "$" not in str(configs.dns_manifests())
    assert "$" not in metrics_server.manifest(Store(tmp_path))


def test_the_api_server_knows_the_metrics_server_by_the_name_and_the_authority_of_its_certificate(
    tmp_path: Path,
) -> None:
    manifests = {each["kind"]: each for each in yaml.safe_load_all(metrics_server.manifest(Store(tmp_path)))}
    api_service, secret = manifests["APIService"]["spec"], manifests["Secret"]["data"]
    authority, certificate = (
        x509.load_pem_x509_certificate(base64.b64decode(each)) for each in (api_service["caBundle"], secret["tls.crt"])
    )
    certificate.verify_directly_issued_by(authority)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    service = api_service["service"]
    assert names.get_values_for_type(x509.DNSName) == [f"{service['name']}.{service['namespace']}.svc"]


def test_every_kind_of_manifest_has_its_collection() -> None:
    assert {manifest["kind"] for manifest in configs.dns_manifests()} <= set(COLLECTIONS)


def test_heartbeats_fit_into_the_grace_period_several_times() -> None:
    config = configs.kubelet("/run/node", "/pods")
    # A kubelet renews its lease four times within its duration.
    assert config["nodeLeaseDurationSeconds"] / 4 * 3 < 10


def test_pods_of_a_node_take_their_addresses_from_its_subnet() -> None:
    [[subnet]] = configs.cni(2)["plugins"][0]["ipam"]["ranges"]
    assert subnet == {"subnet": str(addresses.pod_subnet(2))}


def test_with_nodes_the_control_plane_is_in_the_fabric() -> None:
    endpoints = Spec(nodes=3, host_port=40000, etcd=40001, etcd_peer=40002).endpoints()
    assert (endpoints.api_address, endpoints.api_port, endpoints.host_port) == ("10.200.0.1", 6443, 40000)


def test_without_nodes_it_is_on_the_loopback_with_ports_of_its_own() -> None:
    endpoints = Spec(nodes=0, host_port=40000, etcd=40001, etcd_peer=40002).endpoints()
    assert (endpoints.api_address, endpoints.api_port, endpoints.etcd) == ("127.0.0.1", 40000, 40001)


def test_free_ports_differ() -> None:
    assert len(set(free_ports(3))) == 3


def test_the_state_of_a_plain_user_is_at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_STATE_HOME", "/home/someone/state")
    assert str(default_state_dir("dev")) == "/home/someone/state/onceserve/clusters/dev"

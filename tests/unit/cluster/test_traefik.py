import yaml

from devcluster import binaries, configs, traefik


def test_the_gateway_that_tests_name_is_in_the_manifest() -> None:
    every = list(yaml.safe_load_all(configs.manifest("traefik", IMAGE=traefik.IMAGE)))
    [gateway] = [each["metadata"] for each in every if each["kind"] == "Gateway"]
    assert (gateway["namespace"], gateway["name"]) == (traefik.NAMESPACE, traefik.GATEWAY)
    [pod] = [each["spec"]["template"]["spec"] for each in every if each["kind"] == "Deployment"]
    assert [each["image"] for each in pod["containers"]] == [traefik.IMAGE]


def test_no_other_cluster_waits_for_it_to_be_built() -> None:
    assert traefik.COMPONENT not in binaries.COMPONENTS
    assert (traefik.COMPONENT.module / "go.sum").is_file()

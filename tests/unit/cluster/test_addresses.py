import itertools

import pytest

from devcluster import addresses


def test_name_and_number_are_inverse() -> None:
    assert [addresses.node_number(addresses.node_name(number)) for number in (1, 7, 200)] == [1, 7, 200]


@pytest.mark.parametrize("number", [1, 2, addresses.MAX_NODES])
def test_a_node_has_an_address_on_the_fabric_that_is_not_the_control_planes(number: int) -> None:
    assert addresses.node_address(number) in addresses.FABRIC_NETWORK
    assert addresses.node_address(number) not in {addresses.CONTROL_PLANE, addresses.FABRIC_NETWORK.broadcast_address}


def test_no_two_nodes_share_an_address_or_a_subnet() -> None:
    numbers = range(1, addresses.MAX_NODES + 1)
    assert len({addresses.node_address(number) for number in numbers}) == len(numbers)
    assert len({addresses.pod_subnet(number) for number in numbers}) == len(numbers)


def test_pods_have_the_subnet_that_their_node_is_numbered_by() -> None:
    assert str(addresses.pod_subnet(3)) == "10.244.3.0/24"
    assert str(addresses.node_address(3)) == "10.200.1.3"


def test_networks_do_not_overlap() -> None:
    networks = (addresses.FABRIC_NETWORK, addresses.POD_NETWORK, addresses.SERVICE_NETWORK)
    assert not any(one.overlaps(other) for one, other in itertools.combinations(networks, 2))

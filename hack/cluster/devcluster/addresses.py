"""The addresses of a cluster; all live in namespaces of its own, so every cluster has the same."""

import ipaddress

FABRIC_NETWORK = ipaddress.IPv4Network("10.200.0.0/16")
POD_NETWORK = ipaddress.IPv4Network("10.244.0.0/16")
SERVICE_NETWORK = ipaddress.IPv4Network("10.96.0.0/16")
CONTROL_PLANE = FABRIC_NETWORK[1]
API_SERVICE = SERVICE_NETWORK[1]
DNS_SERVICE = SERVICE_NETWORK[10]
CLUSTER_DOMAIN = "cluster.local"
MAX_NODES = 200


def node_name(number: int) -> str:
    """Name the node with this number; the first is 1."""
    return f"node-{number}"


def node_number(name: str) -> int:
    """Return the number in a node's name."""
    return int(name.removeprefix("node-"))


def node_address(number: int) -> ipaddress.IPv4Address:
    """Return a node's address on the fabric."""
    return FABRIC_NETWORK[256 + number]


def hardware_address(address: ipaddress.IPv4Address) -> str:
    """Return the Ethernet address of who has this one on the fabric: locally administered, and the same each time."""
    return ":".join(f"{byte:02x}" for byte in (0x02, 0x00, *address.packed))


def pod_subnet(number: int) -> ipaddress.IPv4Network:
    """Return the subnet that a node's pods take their addresses from."""
    return list(POD_NETWORK.subnets(new_prefix=24))[number]

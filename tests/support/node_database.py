"""A PostgreSQL that pods reach: on the address of a node of a cluster, with a password."""

from collections.abc import Sequence
from pathlib import Path

from devcluster import addresses
from devcluster.cluster import Cluster
from support.databases import Postgresql

PASSWORD = "a-password"


class NodePostgresql(Postgresql):
    """Runs in the network of a node, as a service of the host beside its pods does."""

    def __init__(self, cluster: Cluster, node: str) -> None:
        self._cluster = cluster
        self._node = node
        self._address = addresses.node_address(addresses.node_number(node))
        super().__init__(listen_addresses=f"127.0.0.1,{self._address}")

    def entering(self, command: Sequence[str | Path]) -> Sequence[str | Path]:
        return self._cluster.exec_command(self._node, super().entering(command))

    def url_of(self, database: str) -> str:
        return f"postgresql://onceserve:{PASSWORD}@{self._address}:{self.port}/{database}"

    def prepare(self) -> None:
        super().prepare()
        with (self._data / "pg_hba.conf").open("a") as rules:
            rules.write("host all onceserve 0.0.0.0/0 scram-sha-256\n")

    def start(self) -> None:
        super().start()
        self.execute(f"ALTER ROLE onceserve PASSWORD '{PASSWORD}'")

"""The few calls that bringing a cluster up takes; everyone else uses a real client."""

import http.client
import json
import ssl
from pathlib import Path
from typing import Any

from devcluster.errors import ClusterError

HTTP_OK = range(200, 300)
FIELD_MANAGER = "devcluster"


class Api:
    """A client of one API server as its administrator."""

    def __init__(self, port: int, authority: Path, certificate: Path, key: Path) -> None:
        self.port = port
        self._files = (authority, certificate, key)

    def request(self, method: str, path: str, body: object = None, content_type: str = "application/json") -> Any:  # noqa: ANN401
        """Send one request; return the decoded answer."""
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=10, context=self._context())
        try:
            encoded = None if body is None else json.dumps(body).encode()
            connection.request(method, path, encoded, {"Content-Type": content_type})
            response = connection.getresponse()
            content = response.read()
        finally:
            connection.close()
        if response.status not in HTTP_OK:
            raise ClusterError(f"{method} {path}: {response.status} {content.decode(errors='replace')[:500]}")
        return json.loads(content) if content[:1] in (b"{", b"[") else content.decode()

    def is_ready(self) -> bool:
        """Say whether the API server serves and finished its start."""
        return self.answers("/readyz")

    def answers(self, path: str) -> bool:
        """Say whether a GET of this path succeeds."""
        try:
            self.request("GET", path)
        except (OSError, http.client.HTTPException, ClusterError):
            return False
        return True

    def apply(self, manifest: dict[str, Any], collection: str) -> None:
        """Apply one manifest to the collection that holds its kind."""
        path = f"{collection}/{manifest['metadata']['name']}?fieldManager={FIELD_MANAGER}&force=true"
        self.request("PATCH", path, manifest, "application/apply-patch+yaml")

    def node_readiness(self) -> dict[str, bool]:
        """Return every node's name and whether it is Ready."""
        return {node["metadata"]["name"]: is_ready(node) for node in self.request("GET", "/api/v1/nodes")["items"]}

    def _context(self) -> ssl.SSLContext:
        authority, certificate, key = self._files
        context = ssl.create_default_context(cafile=str(authority))
        context.load_cert_chain(certificate, key)
        return context


def is_ready(resource: dict[str, Any]) -> bool:
    """Say whether a node or a pod has the condition Ready."""
    conditions = resource.get("status", {}).get("conditions", [])
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)

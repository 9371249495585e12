"""A real API server by plain requests, for tests about its very words."""

import json
from dataclasses import dataclass
from typing import Any

from kubernetes.client import ApiClient

APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"


@dataclass(frozen=True, slots=True)
class Answer:
    """What the API server said."""

    status: int
    body: dict[str, Any]

    @property
    def accepted(self) -> bool:
        return self.status < 300

    @property
    def causes(self) -> dict[str, list[str]]:
        """The messages of a refusal by field."""
        causes: dict[str, list[str]] = {}
        for cause in self.body.get("details", {}).get("causes", []):
            causes.setdefault(cause.get("field", ""), []).append(cause["message"])
        return causes


class Api:
    """One API server, as one user."""

    def __init__(self, client: ApiClient) -> None:
        self._client = client

    def request(self, method: str, path: str, body: object = None, content_type: str = "application/json") -> Answer:
        headers = {"Content-Type": content_type, "Accept": "application/json"}
        url = self._client.configuration.host + path
        response = self._client.call_api(method, url, header_params=headers, body=body)
        content = response.read()
        # What no handler takes, such as a group that is not served yet, is answered in plain text.
        return Answer(response.status, json.loads(content) if content.startswith(b"{") else {})

    def get(self, path: str) -> Answer:
        return self.request("GET", path)

    def create(self, path: str, body: object) -> Answer:
        return self.request("POST", f"{path}?fieldValidation=Strict", body)

    def merge(self, path: str, body: object) -> Answer:
        return self.request("PATCH", f"{path}?fieldValidation=Strict", body, MERGE)

    def apply(self, path: str, body: object, manager: str) -> Answer:
        return self.request("PATCH", f"{path}?fieldManager={manager}&fieldValidation=Strict&force=true", body, APPLY)

    def delete(self, path: str) -> Answer:
        return self.request("DELETE", path)

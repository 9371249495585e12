"""The page at /docs: all that it needs comes from the server itself, with and without API keys."""

import re
from collections.abc import Iterator
from html.parser import HTMLParser

import httpx
import pytest

from contract.serving.conftest import EXAMPLE, Serve
from contract.serving.process import client
from onceserve_serving.auth import keys

KEY = keys.new_key()


class Links(HTMLParser):
    """What a page has its browser fetch, or leads people to."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str | None] = set()

    def handle_starttag(self, _: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found |= {value for name, value in attrs if name in ("href", "src", "action", "data", "srcset")}


@pytest.fixture(scope="module")
def locked(module_serve: Serve, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    file = tmp_path_factory.mktemp("keys") / "keys.txt"
    file.write_text(keys.line_of(KEY, "ann"))
    yield from client(module_serve(EXAMPLE / "model.onnx", "--name", "risk", "--api-keys", str(file)).ready())


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_a_page_refers_to_no_other_host(example: httpx.Client, path: str) -> None:
    page = example.get(path)
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    links = Links()
    links.feed(page.text)
    assert links.found
    assert not [link for link in links.found if link and ("//" in link or link.startswith("http"))]
    assert not re.search(r"@import|url\(|import\(|importScripts", page.text)


def test_a_browser_is_told_to_ask_no_other_host(example: httpx.Client) -> None:
    policy = dict(
        part.split(maxsplit=1) for part in example.get("/docs").headers["content-security-policy"].split("; ")
    )
    assert policy.pop("connect-src") == "'self'"
    assert policy.pop("img-src") == "data:"
    assert set(policy.values()) == {"'none'", "'unsafe-inline'"}
    assert policy["default-src"] == policy["form-action"] == "'none'"


def test_what_the_page_shows_can_be_sent_as_it_stands(example: httpx.Client) -> None:
    paths = example.get("/openapi.json").json()["paths"]
    asked = paths["/v2/models/risk/infer"]["post"]["requestBody"]["content"]["application/json"]["example"]
    answer = example.post("/v2/models/risk/infer", json=asked)
    assert [output["name"] for output in answer.json()["outputs"]] == ["label", "probabilities"]


def test_with_keys_the_page_is_open_and_tells_nothing_of_this_server(
    example: httpx.Client, locked: httpx.Client
) -> None:
    assert locked.get("/docs").content == example.get("/docs").content
    assert "risk" not in locked.get("/docs").text
    assert locked.get("/openapi.json").status_code == 401


@pytest.mark.parametrize("headers", [{"X-API-Key": KEY}, {"Authorization": f"Bearer {KEY}"}])
def test_with_keys_the_document_tells_how_they_are_sent(locked: httpx.Client, headers: dict[str, str]) -> None:
    document = locked.get("/openapi.json", headers=headers).json()
    schemes = document["components"]["securitySchemes"]
    assert schemes["key"] == {"type": "apiKey", "in": "header", "name": "X-API-Key"}
    assert (schemes["bearer"]["type"], schemes["bearer"]["scheme"]) == ("http", "bearer")
    assert document["security"] == [{"key": []}, {"bearer": []}]
    assert document["paths"]["/v2/health/live"]["get"]["security"] == []
    assert "X-API-Key: $KEY" in document["paths"]["/v2/models/risk/infer"]["post"]["description"]

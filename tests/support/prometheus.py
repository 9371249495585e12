"""A real Prometheus on loopback."""

import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from support.databases import DatabaseServer
from support.debian import program

INTERVAL = 0.5
"""Seconds between two looks at a target."""


class Prometheus(DatabaseServer):
    """One that scrapes the targets it is told; with a certificate and its key it speaks HTTPS.

    `relabelings` is the `relabel_configs` of its one job, `prefix` the path below which it answers.
    """

    def __init__(
        self,
        *options: str,
        relabelings: Sequence[Mapping[str, object]] = (),
        prefix: str = "",
        tls: tuple[Path, Path] | None = None,
    ) -> None:
        super().__init__()
        self._options = options
        self._relabelings = relabelings
        self._prefix = prefix
        self._tls = tls
        self._targets = self.directory / "targets.json"

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}{self._prefix}"

    def prepare(self) -> None:
        self.scrape({})
        job = {
            "job_name": "models",
            "scrape_interval": f"{INTERVAL * 1000:.0f}ms",
            "scrape_timeout": f"{INTERVAL * 1000:.0f}ms",
            "file_sd_configs": [{"files": [str(self._targets)], "refresh_interval": "1s"}],
            "relabel_configs": list(self._relabelings),
        }
        self._write("prometheus.yml", {"scrape_configs": [job]})
        certificate = dict(zip(("cert_file", "key_file"), map(str, self._tls), strict=True)) if self._tls else None
        self._write("web.yml", {"tls_server_config": certificate} if certificate else {})

    def scrape(self, targets: Mapping[str, Mapping[str, str]]) -> None:
        """Have it scrape these alone: labels by `HOST:PORT`."""
        groups = [{"targets": [address], "labels": dict(labels)} for address, labels in targets.items()]
        draft = self._targets.with_suffix(".draft")
        draft.write_text(json.dumps(groups))
        draft.rename(self._targets)

    def command(self) -> Sequence[str | Path]:
        files = {"config.file": "prometheus.yml", "web.config.file": "web.yml", "storage.tsdb.path": "data"}
        places = [f"--{option}={self.directory / name}" for option, name in files.items()]
        listening = [f"--web.listen-address=127.0.0.1:{self.port}", f"--web.route-prefix={self._prefix or '/'}"]
        return [program("prometheus", "prometheus"), *places, *listening, *self._options]

    def is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=5, context=_anybody()) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, ConnectionError):
            return False

    def _write(self, name: str, content: Mapping[str, object]) -> None:
        (self.directory / name).write_text(yaml.safe_dump(content))


def _anybody() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context

"""Every setting of the server: an option of `onceserve serve` and an `ONCESERVE_` environment variable each."""

import os
import re
import socket
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import Field, StringConstraints, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from onceserve_contract import environment, http
from onceserve_serving.errors import InvalidSettingsError

SCHEMES: Final = ("", "file", "http", "https")
OPTIONS: Final = {"model_uri": "MODEL", "model_name": "--name", "model_sha256": "--sha256"}
KUBELET_TERMINATION_LOG: Final = Path("/dev/termination-log")

Name = Annotated[str, StringConstraints(pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]{0,252})?$")]
Seconds = Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)]


class Settings(BaseSettings):
    """The server's settings; an option beats the environment, which beats the default."""

    model_config = SettingsConfigDict(
        env_prefix=environment.PREFIX,
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        use_attribute_docstrings=True,
        hide_input_in_errors=True,
    )

    model_uri: str
    """The model: a path, file://, http:// or https://. Credentials in a URL are used and never shown."""

    model_name: Name = ""
    """Name in /v2/models/NAME. Default: the file's name without its extension."""

    model_version: Name = "1"
    """Version that is reported for the model; in a pod the revision that it belongs to."""

    model_sha256: Annotated[str, StringConstraints(pattern=r"^([0-9a-fA-F]{64})?$", to_lower=True)] = ""
    """SHA-256 (64 hex digits) that the model must have, so that what was approved is what answers. Default: any."""

    max_model_bytes: Annotated[int, Field(ge=1)] = 2**31 - 1
    """Bytes that a model may have. ONNX itself ends at 2 GiB; a smaller limit guards a small pod."""

    threads: Annotated[int, Field(ge=1, le=1024)] = 1
    """Threads inside one inference (onnxruntime's intra-op). One serves small models best; match the CPU limit for
    large ones."""

    host: str = ""
    """Address to listen on. Default: all, IPv4 and IPv6."""

    port: Annotated[int, Field(ge=0, le=65_535)] = http.PORT
    """TCP port of the HTTP server; 0 takes a free one and logs it."""

    max_body_bytes: Annotated[int, Field(ge=1)] = 32 * 2**20
    """Bytes that a request's body may have, so that one caller cannot take the memory of all."""

    keep_alive: Annotated[float, Field(ge=1, le=86_400)] = 120.0
    """Seconds that an idle connection stays open. Longer than clients and proxies keep theirs (usually 60 to 75), so
    that they close first and never send into a connection that is just going away."""

    inference_deadline: Annotated[float, Field(gt=0, le=86_400)] = 60.0
    """Seconds after which a run that has not ended counts as stuck: the server is then neither ready nor alive."""

    smoke_deadline: Annotated[float, Field(gt=0, le=3_600)] = 1.0
    """Seconds that the readiness probe's own inference may take; four times the warm-up run if that is longer."""

    drain_delay: Seconds = 0.0
    """Seconds to go on answering after SIGTERM while load balancers learn that this server leaves. 0 on a laptop; the
    operator sets it in pods."""

    drain_timeout: Seconds = 30.0
    """Seconds that requests in flight have to end after the drain delay; then they are cut."""

    pod_name: str = Field(default_factory=socket.gethostname)
    """Name in the header that tells which server answered. Default: the host's name."""

    termination_log: Path | None = None
    """File for the reason of a fatal start. Default: /dev/termination-log where it exists, as it does in pods."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severity that is logged."""

    log_format: Literal["auto", "json", "text"] = "auto"
    """Form of the log on standard error; auto writes text to a terminal and JSON elsewhere."""

    @field_validator("model_uri")
    @classmethod
    def _known_scheme(cls, uri: str) -> str:
        if not uri or uri_scheme(uri) not in SCHEMES:
            raise ValueError("expected a path, file://, http:// or https://")
        return uri

    @property
    def served_name(self) -> str:
        """Name of the model in URLs: the setting, else the file's name made fit for a URL."""
        return self.model_name or name_from_uri(self.model_uri)


def uri_scheme(uri: str) -> str:
    """Return the scheme of a model's URI, empty for a plain path."""
    return uri.split("://", 1)[0].lower() if "://" in uri else ""


def name_from_uri(uri: str) -> str:
    """Return the name that a model gets from where it lies."""
    path = urlsplit(uri).path if uri_scheme(uri) else uri
    return re.sub(r"[^A-Za-z0-9._-]+", "-", PurePosixPath(path).stem).strip("-._") or "model"


def option_of(field: str) -> str:
    """Return the command-line option of a setting."""
    return OPTIONS.get(field, "--" + field.replace("_", "-"))


def variable_of(field: str) -> str:
    """Return the environment variable of a setting."""
    return environment.PREFIX + field.upper()


def read(options: dict[str, Any]) -> Settings:
    """Return the settings from command-line options and the environment.

    Raises InvalidSettingsError with one line that names each bad setting and what was expected, never its value.
    """
    try:
        return Settings(**options)
    except ValidationError as error:
        raise InvalidSettingsError("; ".join(_complaint(one["loc"][0], one["msg"]) for one in error.errors())) from None


def _complaint(field: int | str, message: str) -> str:
    expected = message.removeprefix("Value error, ").replace("Field required", "expected, and not given")
    return f"{option_of(str(field))} (or {variable_of(str(field))}): {expected}"


def termination_log(configured: Path | None) -> Path | None:
    """Return the file for the reason of a fatal start, or None where nobody would read one."""
    if configured is not None:
        return configured
    return KUBELET_TERMINATION_LOG if KUBELET_TERMINATION_LOG.exists() else None


def termination_log_from_environment() -> Path | None:
    """Return that file for the case in which the settings themselves cannot be read."""
    named = os.environ.get(environment.TERMINATION_LOG)
    return termination_log(Path(named) if named else None)

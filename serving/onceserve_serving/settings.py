"""Every setting of the server: an option of `onceserve serve` and an `ONCESERVE_` environment variable each."""

import os
import re
import socket
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, StringConstraints, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from onceserve_contract import environment, grpc, http
from onceserve_serving import cpus
from onceserve_serving.errors import InvalidSettingsError

SCHEMES: Final = ("", "file", "http", "https")
OPTIONS: Final = {"model_uri": "MODEL", "model_name": "--name", "model_sha256": "--sha256", "models": "--model"}
LEASES_KEPT: Final = 10
"""Leases that an answer is kept at least: a retention that ends while its request runs would let it run again."""

NAMED_MODEL: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,252}=.+")
KUBELET_TERMINATION_LOG: Final = Path("/dev/termination-log")

Name = Annotated[str, StringConstraints(pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]{0,252})?$")]
Seconds = Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)]


def _threads(value: object) -> object:
    return cpus.limit() if value == "auto" else value


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

    model_uri: str = Field(default="", validate_default=False)
    """The model: a path, file://, http:// or https://. Credentials in a URL are used and never shown."""

    model_name: Name = ""
    """Name in /v2/models/NAME. Default: the file's name without its extension."""

    model_version: Name = "1"
    """Version that is reported for the model; in a pod the revision that it belongs to."""

    model_sha256: Annotated[str, StringConstraints(pattern=r"^([0-9a-fA-F]{64})?$", to_lower=True)] = ""
    """SHA-256 (64 hex digits) that the model must have, so that what was approved is what answers. Default: any."""

    models: Annotated[tuple[str, ...], NoDecode] = ()
    """Further models, each as NAME=URI; the option may be given more than once, the variable takes them with spaces
    between."""

    repository: Path | None = None
    """Directory of models that can be loaded and unloaded at run time: NAME.onnx, NAME/model.onnx or
    NAME/VERSION/model.onnx, of which the highest version is served."""

    repository_mode: Literal["all", "explicit"] = "all"
    """Whether all models of the repository are loaded at the start, or each only when it is asked for."""

    allow_model_control: bool = False
    """Let callers load again and unload the models that were named at the start; those of a repository they always
    may."""

    max_model_bytes: Annotated[int, Field(ge=1)] = 2**31 - 1
    """Bytes that a model may have. ONNX itself ends at 2 GiB; a smaller limit guards a small pod."""

    threads: Annotated[int, BeforeValidator(_threads), Field(ge=1, le=1024)] = Field(default_factory=cpus.limit)
    """Threads inside one inference (onnxruntime's intra-op). Default: auto, which is the CPU limit, rounded up."""

    providers: Annotated[str, StringConstraints(pattern=r"^[A-Za-z]+(,[A-Za-z]+)*$")] = "CPU"
    """What runs the models, in the order of preference, with commas between: CPU, CUDA, TensorRT, OpenVINO or another
    execution provider of the onnxruntime that is installed. The CPU takes what the others cannot."""

    max_batch_size: Annotated[int, Field(ge=1, le=65_536)] = 32
    """Rows that go through a model in one run: what is waiting when the model is free goes together. 1 runs every
    request alone. So run models with a fixed first dimension, and, without a delay, those that do no more in the same
    time when rows go together."""

    max_delay: Annotated[float, Field(ge=0, le=60, allow_inf_nan=False)] = 0.0
    """Seconds that a request may wait for others to fill its batch. 0 never lets a single request wait."""

    max_concurrency: Annotated[int, Field(ge=1, le=65_536)] = 64
    """Requests to a model that are decoded, batched and run at the same time; further ones queue."""

    max_queue: Annotated[int, Field(ge=0, le=1_048_576)] = 256
    """Requests to a model that may queue; further ones are answered 429 at once."""

    max_queue_bytes: Annotated[int, Field(ge=0)] = 128 * 2**20
    """Bytes of the requests to a model that may queue."""

    timeout: Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)] = 30.0
    """Seconds within which the run of a request must begin if its caller names no deadline; else it is answered 504 and
    never runs."""
    host: str = ""
    """Address to listen on. Default: all, IPv4 and IPv6."""

    port: Annotated[int, Field(ge=0, le=65_535)] = http.PORT
    """TCP port of the HTTP server; 0 takes a free one and logs it."""

    grpc_port: Annotated[int, Field(ge=0, le=65_535)] | Literal["off"] = grpc.PORT
    """TCP port of the gRPC server; 0 takes a free one and logs it, off serves no gRPC and saves its memory."""

    max_body_bytes: Annotated[int, Field(ge=1)] = 32 * 2**20
    """Bytes that a request's body may have, so that one caller cannot take the memory of all."""

    keep_alive: Annotated[float, Field(ge=1, le=86_400)] = 120.0
    """Seconds that an idle connection stays open. Longer than clients and proxies keep theirs (usually 60 to 75), so
    that they close first and never send into a connection that is just going away."""

    api_keys: Path | None = None
    """File of OWNER: sha256:HASH lines, or a directory of such files named after their owners, as a mounted Secret is.
    Calls then need a key; probes and metrics do not. Read again when it changes. `onceserve hash-key` makes keys.
    Default: anybody may call."""

    verification_key: Annotated[str, StringConstraints(pattern=r"^([0-9a-fA-F]{64})?$", to_lower=True)] = ""
    """SHA-256 (64 hex digits) of the token with which the operator asks the model before callers do. Default: nobody
    may."""

    tls_cert: Path | None = None
    """Certificate chain in PEM form: HTTP and gRPC then speak TLS alone. Read again when it changes. Default: none."""

    tls_key: Path | None = None
    """Private key of the certificate, in PEM form and without a passphrase."""

    tls_client_ca: Path | None = None
    """Authorities in PEM form; only clients with a certificate of theirs are let in. Default: any client."""

    idempotency_store: str = ""
    """URL of the store that keeps the answers to requests with an Idempotency-Key: sqlite:///PATH, redis://…,
    postgresql://… or memory:. Credentials in it are used and never shown. Default: none; keys are then refused."""

    idempotency_store_type: Literal["", "sqlite", "redis", "postgresql", "memory"] = ""
    """What the URL of the store must be of: sqlite, redis (or Valkey), postgresql or memory. Default: any. The operator
    sets it to what the resource names."""

    idempotency_mode: Literal["required", "optional", "disabled"] = "optional"
    """Whether requests must, may or must not carry a key."""

    idempotency_scope: str = ""
    """What keys are unique in, besides the caller and the route: servers that share answers share it. The operator sets
    it to the resource's namespace and name."""

    idempotency_lease: Annotated[float, Field(ge=1, le=3_600)] = 30.0
    """Seconds after which a server that says nothing more has lost its request to another."""

    idempotency_retention: Annotated[float, Field(ge=10, le=366 * 86_400)] = 86_400.0
    """Seconds that an answer is kept; ten times the lease or more. A retry after that is a new request."""

    idempotency_when_store_fails: Literal["fail-closed", "fail-open"] = "fail-closed"
    """Whether requests with a key are refused, or answered without being kept, while the store does not answer."""

    idempotency_on_conflict: Literal["refuse", "wait"] = "refuse"
    """What a request gets whose key is being answered by another server: 409 at once, or that server's answer. `Prefer:
    wait=SECONDS` asks for the latter."""

    idempotency_secret: Path | None = None
    """File of the secret by which requests are fingerprinted, so that who reads the store cannot guess them; a second
    line holds the secret before it. All servers of one scope need the same. Default: none."""

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

    access_log: bool = False
    """Log a line for every inference request, which costs some throughput. Failures of the server are always logged."""

    @field_validator("models", mode="before")
    @classmethod
    def _split(cls, models: object) -> object:
        return models.split() if isinstance(models, str) else models

    @field_validator("models")
    @classmethod
    def _named(cls, models: tuple[str, ...]) -> tuple[str, ...]:
        if not all(NAMED_MODEL.fullmatch(one) and uri_scheme(one.partition("=")[2]) in SCHEMES for one in models):
            raise ValueError("expected NAME=URI, with a path, file://, http:// or https://")
        return models

    @field_validator("model_uri")
    @classmethod
    def _known_scheme(cls, uri: str) -> str:
        if not uri or uri_scheme(uri) not in SCHEMES:
            raise ValueError("expected a path, file://, http:// or https://")
        return uri

    @field_validator("idempotency_mode")
    @classmethod
    def _has_store(cls, mode: str, others: ValidationInfo) -> str:
        if mode == "required" and not others.data.get("idempotency_store"):
            raise ValueError("expected --idempotency-store beside required")
        return mode

    @field_validator("idempotency_retention")
    @classmethod
    def _outlasts_lease(cls, retention: float, others: ValidationInfo) -> float:
        least = LEASES_KEPT * float(others.data.get("idempotency_lease", 0.0))
        if retention < least:
            raise ValueError(f"expected {LEASES_KEPT} times the lease or more, which is {least:g}")
        return retention

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
        settings = Settings(**options)
    except ValidationError as error:
        raise InvalidSettingsError("; ".join(_complaint(one["loc"][0], one["msg"]) for one in error.errors())) from None
    if not (settings.model_uri or settings.models or settings.repository):
        raise InvalidSettingsError(_complaint("model_uri", "Field required"))
    return settings


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

"""Settings of the operator, from environment variables that the chart sets."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from onceserve_operator.errors import SettingError

_SECRET_BYTES = 32


class Settings(BaseSettings):
    """All settings; a wrong one ends the process with the variable's name."""

    model_config = SettingsConfigDict(env_prefix="ONCESERVE_OPERATOR_", frozen=True, use_attribute_docstrings=True)

    server_image: str
    """Image of new revisions whose spec names none: the server of the operator's own release."""
    verification_secret_file: Path
    """File with the secret that the tokens are made of by which the operator verifies pods, 32 bytes at least."""
    lease_namespace: str
    """Namespace of the Lease by which one of several operators leads: their own."""
    lease_name: str = "onceserve-operator"
    """Name of that Lease; operators with the same Lease stand in for each other."""
    namespaces: Annotated[tuple[str, ...], NoDecode] = ()
    """Comma-separated namespaces to look after. Default: all."""
    resync: Annotated[float, Field(ge=1, le=60)] = 60.0
    """Seconds between full passes, which heal whatever a watch has missed."""
    request_timeout: Annotated[float, Field(gt=0)] = 15.0
    """Seconds after which a call to the API server is given up: far above what one takes."""
    concurrency: Annotated[int, Field(ge=1)] = 8
    """Resources reconciled at once, so that a slow one delays no other."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severity that is logged."""
    metrics_port: Annotated[int, Field(ge=0, le=65535)] = 9090
    """TCP port of /metrics; 0 picks a free one."""
    health_port: Annotated[int, Field(ge=1, le=65535)] = 8081
    """TCP port of /healthz and /readyz."""

    def verification_secret(self) -> bytes:
        """Return the secret itself, less the line end that editors leave. Raises SettingError."""
        variable, path = "ONCESERVE_OPERATOR_VERIFICATION_SECRET_FILE", self.verification_secret_file
        try:
            secret = path.read_bytes().strip()
        except OSError as error:
            raise SettingError(f"{variable}: {path}: {error.strerror}") from None
        if len(secret) < _SECRET_BYTES:
            raise SettingError(f"{variable}: {path} has {len(secret)} bytes; at least {_SECRET_BYTES} were expected")
        return secret

    @field_validator("namespaces", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(filter(None, map(str.strip, value.split(",")))) if isinstance(value, str) else value

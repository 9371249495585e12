"""Settings of the operator, from environment variables that the chart sets."""

from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict


class Settings(BaseSettings):
    """All settings; a wrong one ends the process with the variable's name."""

    model_config = SettingsConfigDict(env_prefix="ONCESERVE_OPERATOR_", frozen=True, use_attribute_docstrings=True)

    server_image: str
    """Image of new revisions whose spec names none: the server of the operator's own release."""
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
    """TCP port of /healthz."""

    @field_validator("namespaces", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(filter(None, map(str.strip, value.split(",")))) if isinstance(value, str) else value

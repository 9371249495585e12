"""Whether a Redis keeps what it acknowledges."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from redis.exceptions import ResponseError

from onceserve_serving.errors import InvalidSettingsError

OLDEST: Final = (7, 0)
"""The oldest Redis that the tests run on; Valkey calls itself 7.2."""

Command = Callable[..., Awaitable[Any]]


async def check(command: Command, name: str, replicas: int) -> Sequence[str]:
    """Return warnings; raises InvalidSettingsError where a record that was acknowledged could be forgotten."""
    info = _parse(await command("INFO", "everything"))
    problem = _problem(info, replicas)
    if problem:
        raise InvalidSettingsError(f"{name}: {problem}")
    return [f"{name}: {warning}" for warning in _warnings(info, await _appendfsync(command), replicas)]


def _problem(info: Mapping[str, str], replicas: int) -> str | None:
    version = info["redis_version"]
    if tuple(map(int, version.split(".")[:2])) < OLDEST:
        return f"it is version {version}; {'.'.join(map(str, OLDEST))} or later was expected"
    if info["cluster_enabled"] == "1":
        return "it is a node of a Redis Cluster; one primary, with or without replicas, was expected"
    if info["role"] != "master":
        return "it is a replica; the primary was expected"
    if (policy := info["maxmemory_policy"]) != "noeviction":
        return f"maxmemory-policy is {policy}, which forgets answers; noeviction was expected"
    if info["aof_enabled"] != "1" and not replicas:
        return "appendonly is no: a restart forgets answers; set appendonly yes, or ?replicas=N to wait for replicas"
    return None


def _warnings(info: Mapping[str, str], appendfsync: str | None, replicas: int) -> Sequence[str]:
    warnings = []
    if info["aof_enabled"] != "1":
        warnings.append(f"appendonly is no: answers live in the memory of this server and {replicas} replicas alone")
    elif appendfsync is None:
        warnings.append("CONFIG is not allowed, so it is not known whether appendfsync is always")
    elif appendfsync != "always":
        warnings.append(f"appendfsync is {appendfsync}: a power cut forgets the answers of its last second or more")
    if not replicas and info.get("connected_slaves", "0") != "0":
        warnings.append("it has replicas that are not waited for (?replicas=N): a failover forgets the latest answers")
    return warnings


async def _appendfsync(command: Command) -> str | None:
    try:
        _, value = await command("CONFIG", "GET", "appendfsync")
    except ResponseError:
        return None
    return str(value.decode())


def _parse(info: bytes) -> Mapping[str, str]:
    return dict(line.split(":", 1) for line in info.decode().splitlines() if ":" in line)

"""Which store a URL means. A store's library is imported only when it is asked for."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, TypeAlias, TypeVar
from urllib.parse import SplitResult, parse_qsl, unquote, urlencode, urlsplit

from onceserve_contract.environment import IDEMPOTENCY_STORE_TYPE
from onceserve_serving.errors import InvalidSettingsError
from onceserve_serving.idempotency.ledger import Ledger
from onceserve_serving.idempotency.link import TIMEOUT
from onceserve_serving.idempotency.store import Store

LONGEST: Final = 60.0

TYPES: Final = {
    **{name: name for name in ("memory", "sqlite", "redis", "postgresql")},
    **dict.fromkeys(("rediss", "valkey", "valkeys"), "redis"),
    "postgres": "postgresql",
}
"""What the scheme of a URL means."""

Options: TypeAlias = dict[str, str]
M = TypeVar("M")
N = TypeVar("N", int, float)


def open_store(url: str) -> Store:
    """Return the store, not yet opened. Raises InvalidSettingsError, in words that hold no secret.

    memory: | sqlite:///PATH | redis://, rediss://, valkey://, valkeys:// | postgresql://. Each but memory takes
    `timeout=SECONDS`, those of Redis also `replicas=N`: how many must acknowledge what is written.
    """
    return _made(url, _STORES)


def check_type(url: str, expected: str) -> None:
    """Raise InvalidSettingsError if the URL means a store of another type than `expected`, unless that is empty."""
    if expected and (found := type_of(url)) and found != expected:
        raise InvalidSettingsError(
            f"--idempotency-store-type (or {IDEMPOTENCY_STORE_TYPE}): the store is to be of the type {expected}, "
            f"and its URL begins with {_scheme(url)}:"
        )


def type_of(url: str) -> str:
    """Return sqlite, redis, postgresql or memory; empty if the URL means no store."""
    return TYPES.get(_scheme(url), "")


def has_ledger(url: str) -> bool:
    """Tell whether a URL means a store with a ledger."""
    return type_of(url) == "postgresql"


def open_ledger(url: str) -> Ledger:
    """Return the ledger of a store, not yet opened. Raises InvalidSettingsError where the URL means one without."""
    if not has_ledger(url):
        raise InvalidSettingsError("only a store postgresql:// has a ledger")
    return _made(url, _LEDGERS)


def _made(url: str, makers: Mapping[str, Callable[[SplitResult, Options], M]]) -> M:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise InvalidSettingsError("the store's URL is not a URL; its host or port has a wrong form") from None
    if parts.scheme not in TYPES:
        raise InvalidSettingsError(f"the store's URL begins with none of {', '.join(f'{name}:' for name in TYPES)}")
    try:
        return makers[TYPES[parts.scheme]](parts, dict(parse_qsl(parts.query, keep_blank_values=True)))
    except ModuleNotFoundError as error:
        raise InvalidSettingsError(
            f"a store {parts.scheme}: needs the Python package {error.name}: install the extra of that store"
        ) from error


def _memory(parts: SplitResult, options: Options) -> Store:
    from onceserve_serving.idempotency.memory import MemoryStore  # noqa: PLC0415

    _refuse(options)
    if parts.netloc or parts.path:
        raise InvalidSettingsError("the store's URL: nothing was expected after memory:")
    return MemoryStore()


def _sqlite(parts: SplitResult, options: Options) -> Store:
    from onceserve_serving.idempotency.sqlite import SqliteStore  # noqa: PLC0415

    timeout = _timeout(options)
    _refuse(options)
    if parts.netloc or not parts.path:
        raise InvalidSettingsError("the store's URL: a path was expected, as in sqlite:///var/lib/onceserve/store.db")
    return SqliteStore(Path(unquote(parts.path)), timeout)


def _redis(parts: SplitResult, options: Options) -> Store:
    from onceserve_serving.idempotency.redis import RedisStore  # noqa: PLC0415

    timeout, replicas = _timeout(options), _number(options, "replicas", "0", int)
    if replicas < 0:
        raise InvalidSettingsError("the store's URL: replicas: 0 or more was expected")
    scheme = parts.scheme.replace("valkey", "redis")
    return RedisStore(parts._replace(scheme=scheme, query=urlencode(options)).geturl(), timeout, replicas)


def _postgresql(parts: SplitResult, options: Options) -> Store:
    from onceserve_serving.idempotency.postgresql import PostgresqlStore  # noqa: PLC0415

    timeout = _timeout(options)
    return PostgresqlStore(parts._replace(query=urlencode(options)).geturl(), timeout)


def _postgresql_ledger(parts: SplitResult, options: Options) -> Ledger:
    from onceserve_serving.idempotency.postgresql_ledger import PostgresqlLedger  # noqa: PLC0415

    timeout = _timeout(options)
    return PostgresqlLedger(parts._replace(query=urlencode(options)).geturl(), timeout)


_STORES: Final[Mapping[str, Callable[[SplitResult, Options], Store]]] = {
    "memory": _memory,
    "sqlite": _sqlite,
    "redis": _redis,
    "postgresql": _postgresql,
}
_LEDGERS: Final[Mapping[str, Callable[[SplitResult, Options], Ledger]]] = {"postgresql": _postgresql_ledger}


def _scheme(url: str) -> str:
    return url.partition(":")[0].strip().lower()


def _timeout(options: Options) -> float:
    timeout = _number(options, "timeout", str(TIMEOUT), float)
    if not 0 < timeout <= LONGEST:
        raise InvalidSettingsError(f"the store's URL: timeout: more than 0 and at most {LONGEST} seconds was expected")
    return timeout


def _number(options: Options, name: str, default: str, kind: Callable[[str], N]) -> N:
    try:
        return kind(options.pop(name, default))
    except ValueError:
        raise InvalidSettingsError(f"the store's URL: {name}: a number was expected") from None


def _refuse(options: Options) -> None:
    if options:
        raise InvalidSettingsError(f"the store's URL has options that it does not take: {', '.join(sorted(options))}")

"""A connection to Redis or Valkey: to servers that keep what they acknowledge."""

import hashlib
import math
from collections.abc import Sequence
from functools import partial
from importlib import resources
from typing import Any, Final, NamedTuple, Self

import hiredis
from redis.asyncio import Connection
from redis.asyncio.connection import parse_url
from redis.exceptions import AuthenticationError, NoScriptError, ReadOnlyError, RedisError, ResponseError

from onceserve_serving.errors import InvalidSettingsError
from onceserve_serving.idempotency.link import Link
from onceserve_serving.idempotency.redis_settings import check
from onceserve_serving.idempotency.store import StoreUnavailableError, UnknownOutcomeError

WAIT_SHARE: Final = 0.5
"""Of the timeout, how much replicas get to acknowledge."""


class Script(NamedTuple):
    """A script and the name that the server knows it by."""

    text: str
    sha1: str

    @classmethod
    def named(cls, name: str) -> Self:
        """Return the script of this name."""
        text = (resources.files(__package__) / "lua" / f"{name}.lua").read_text()
        return cls(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


class Call(NamedTuple):
    """One script on one record."""

    script: Script
    key: str
    arguments: tuple[bytes | str | int, ...]

    def packed(self, command: str, script: str) -> bytes:
        """Return it as it is sent."""
        return _packed(command, script, 1, self.key, *self.arguments)


class Server(Link[Connection]):
    """The server, over one connection; `replicas` must have acknowledged before a call counts as written."""

    lost = (OSError, RedisError)

    def __init__(self, url: str, timeout: float, replicas: int) -> None:
        options = _options(url)
        self._class: type[Connection] = options.pop("connection_class", Connection)
        self._options: dict[str, Any] = {
            "protocol": 2,
            "socket_timeout": None,
            "socket_connect_timeout": timeout,
            **options,
        }
        host, port = options.get("host", "localhost"), options.get("port", 6379)
        super().__init__(f"the store redis {host}:{port}/{options.get('db', 0)}", timeout)
        self.warnings: Sequence[str] = ()
        self._replicas = replicas
        self._demoted = False
        self._new()

    def _new(self) -> Connection:
        try:
            return self._class(**self._options)
        except (TypeError, ValueError, RedisError):
            raise InvalidSettingsError(f"{self.name}: its URL has an option that is unknown or wrong") from None

    async def connect(self) -> Connection:
        """Return a connection to a server that keeps what it acknowledges."""
        connection, usable = self._new(), False
        try:
            await connection.connect()  # type: ignore[no-untyped-call]
            self.warnings = await check(partial(_command, connection), self.name, self._replicas)
            usable = True
        except AuthenticationError as error:
            raise InvalidSettingsError(f"{self.name}: {error}") from None
        finally:
            if not usable:
                await connection.disconnect(nowait=True)
        self._demoted = False
        return connection

    async def is_alive(self, connection: Connection) -> bool:
        """Tell whether nothing unexpected is to be read, such as the end, and the server still takes writes."""
        return connection.is_connected and not self._demoted and not await connection.can_read()

    async def drop(self, connection: Connection) -> None:
        """Close it."""
        await connection.disconnect(nowait=True)

    async def run(self, calls: Sequence[Call]) -> Sequence[Any]:
        """Return what each script answers, or its error."""
        return await self.use(partial(self._run, calls))

    async def _run(self, calls: Sequence[Call], connection: Connection) -> Sequence[Any]:
        answers = await _exchange(connection, [call.packed("EVALSHA", call.script.sha1) for call in calls])
        unknown = [at for at, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
        if unknown:
            sent = [calls[at].packed("EVAL", calls[at].script.text) for at in unknown]
            for at, answer in zip(unknown, await _exchange(connection, sent), strict=True):
                answers[at] = answer
        self._demoted = any(isinstance(answer, ReadOnlyError) for answer in answers)
        if self._replicas:
            await self._wait(connection)
        return [self._refusal(answer) if isinstance(answer, RedisError) else answer for answer in answers]

    async def _wait(self, connection: Connection) -> None:
        patience = round(self.timeout * WAIT_SHARE * 1000)
        acknowledged = await _command(connection, "WAIT", self._replicas, patience)
        if acknowledged < self._replicas:
            raise UnknownOutcomeError(
                f"{self.name}: {acknowledged} replicas acknowledged within {patience} ms where {self._replicas} must"
            )

    def _refusal(self, error: RedisError) -> StoreUnavailableError:
        return StoreUnavailableError(f"{self.name}: {error}; nothing was written")


def _packed(*words: bytes | str | int) -> bytes:
    packed: bytes = hiredis.pack_command(words)  # type: ignore[arg-type]  # it is declared to take one word
    return packed


def _options(url: str) -> dict[str, Any]:
    try:
        return {**parse_url(url)}
    except ValueError as error:
        # It names the option, and shows no value.
        raise InvalidSettingsError(f"the store's URL: {error}") from None


async def _exchange(connection: Connection, commands: Sequence[bytes]) -> list[Any]:
    await connection.send_packed_command([b"".join(commands)], check_health=False)
    return [await _reply(connection) for _ in commands]


async def _reply(connection: Connection) -> Any:  # noqa: ANN401  as replies are
    try:
        # The link's timeout holds for the whole group.
        return await connection.read_response(disable_decoding=True, timeout=math.inf)
    except ResponseError as error:
        return error


async def _command(connection: Connection, *words: str | int) -> Any:  # noqa: ANN401  as replies are
    [reply] = await _exchange(connection, [_packed(*words)])
    if isinstance(reply, ResponseError):
        raise reply
    return reply

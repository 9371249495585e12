"""A store in Redis or Valkey, for any number of servers: each call is one script on one hash."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from functools import partial
from importlib import resources
from typing import Any, Final, NamedTuple

import hiredis
from redis.asyncio import Connection
from redis.asyncio.connection import parse_url
from redis.exceptions import AuthenticationError, NoScriptError, ReadOnlyError, RedisError, ResponseError

from onceserve_serving.errors import InvalidSettingsError
from onceserve_serving.idempotency.grouping import Groups
from onceserve_serving.idempotency.link import Link
from onceserve_serving.idempotency.record import Fingerprint, UnreadableRecordError, decode
from onceserve_serving.idempotency.redis_settings import check
from onceserve_serving.idempotency.store import (
    Busy,
    Claim,
    Claimed,
    Committed,
    Completed,
    Completion,
    Done,
    Lost,
    LostDone,
    Mismatch,
    New,
    Owned,
    Snapshot,
    State,
    Store,
    StoreUnavailableError,
    Takeover,
    UnknownOutcomeError,
    granted,
    milliseconds,
    without_ledger,
)

PREFIX: Final = "onceserve:"
GRANTS: Final[Mapping[bytes, type[New | Owned | Takeover]]] = {b"NEW": New, b"OWNED": Owned, b"TAKEOVER": Takeover}
WAIT_SHARE: Final = 0.5
"""Of the timeout, how much replicas get to acknowledge."""


class Script(NamedTuple):
    """A script and the name that the server knows it by."""

    text: str
    sha1: str


class Call(NamedTuple):
    """One script on one record."""

    script: Script
    key: str
    arguments: tuple[bytes | str | int, ...]

    def packed(self, command: str, script: str) -> bytes:
        """Return it as it is sent."""
        return _packed(command, script, 1, self.key, *self.arguments)


def _script(name: str) -> Script:
    text = (resources.files(__package__) / "lua" / f"{name}.lua").read_text()
    return Script(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


CLAIM, COMPLETE, RELEASE, RENEW, READ = map(_script, ("claim", "complete", "release", "renew", "read"))


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
        connection = self._new()
        try:
            await connection.connect()  # type: ignore[no-untyped-call]
            self.warnings = await check(partial(_command, connection), self.name, self._replicas)
        except BaseException as error:
            await connection.disconnect(nowait=True)
            if isinstance(error, AuthenticationError):
                raise InvalidSettingsError(f"{self.name}: {error}") from None
            raise
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


class RedisStore(Store):
    """Keeps a hash per record, which Redis deletes at the end of its retention; what waits goes in one write."""

    def __init__(self, url: str, timeout: float, replicas: int = 0) -> None:
        self._arguments = (url, timeout, replicas)
        self._server = Server(*self._arguments)
        self._groups = Groups(self._server.run, timeout)
        self._safely = int(replicas > 0)

    async def open(self) -> Sequence[str]:
        """Connect and check that the server keeps what it acknowledges."""
        await self._server.open()
        return self._server.warnings

    async def claim(self, claim: Claim) -> Claimed:
        """Grant the right to answer to one alone, or tell how things stand."""
        lease, retention = milliseconds(claim.lease), milliseconds(claim.retention)
        reply = await self._ask(
            CLAIM, claim.record, claim.fingerprint.packed, claim.claim_id, lease, retention, self._safely
        )
        if (kind := GRANTS.get(reply[0])) is not None:
            return granted(kind, reply[1], reply[2], claim.max_attempts)
        if reply[0] == b"BUSY":
            return Busy(reply[1] / 1000)
        if reply[0] == b"DONE":
            return Done(decode(reply[1]))
        return _mismatch(reply[1], claim.fingerprint)

    async def complete(self, completion: Completion) -> Completed:
        """Store the answer if the claim is still held."""
        record, claim_id, _, retention, _ = completion
        blob = without_ledger(completion)
        reply = await self._ask(COMPLETE, record, claim_id, blob, milliseconds(retention), self._safely, size=len(blob))
        if reply[0] == b"COMMITTED":
            return Committed()
        return LostDone(decode(reply[1])) if reply[0] == b"LOST_DONE" else Lost()

    async def release(self, record: bytes, claim_id: bytes) -> bool:
        """Give a claim back whose request was not run."""
        return bool(await self._ask(RELEASE, record, claim_id))

    async def renew(self, record: bytes, claim_id: bytes, lease: float) -> bool:
        """Make the lease last so many seconds from now."""
        return bool(await self._ask(RENEW, record, claim_id, milliseconds(lease)))

    async def read(self, record: bytes) -> Snapshot | None:
        """Return the record as it is."""
        reply = await self._ask(READ, record)
        if reply is None:
            return None
        fingerprint, state, claim_id, fence, attempt, remaining, answer = reply
        return Snapshot(
            Fingerprint.parse(fingerprint),
            State[state.decode()],
            claim_id,
            fence,
            attempt,
            remaining / 1000 if state == b"RUNNING" else 0.0,
            None if answer is None else decode(answer),
        )

    async def sweep(self) -> int:
        """Do nothing: Redis deletes by itself."""
        return 0

    def twin(self) -> "RedisStore":
        """Return an unopened store of the same records."""
        return RedisStore(*self._arguments)

    async def close(self) -> None:
        """Let what has begun end, refuse what waits, and disconnect."""
        await self._groups.close()
        await self._server.close()

    async def _ask(self, script: Script, record: bytes, *arguments: bytes | str | int, size: int = 0) -> Any:  # noqa: ANN401  as replies are
        reply = await self._groups.ask(record, Call(script, PREFIX + record.hex(), arguments), size)
        if isinstance(reply, list) and reply[0] == b"VERSION":
            raise UnreadableRecordError(
                f"the store has a record of format {reply[1].decode(errors='replace')!r}; this release knows only 1"
            )
        return reply


def _mismatch(stored: bytes, given: Fingerprint) -> Mismatch:
    """Return that it is another request, unless there is no telling."""
    Fingerprint.parse(stored).is_of(given)
    return Mismatch()


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

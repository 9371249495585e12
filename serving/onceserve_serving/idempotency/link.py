"""One connection to a store: made when it is needed, made anew when it is lost, and never waited for without end."""

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import ClassVar, Final, Generic, TypeVar

from onceserve_serving.errors import InvalidSettingsError
from onceserve_serving.idempotency.store import StoreUnavailableError, UnknownOutcomeError

log = logging.getLogger(__name__)

C = TypeVar("C")
R = TypeVar("R")

TIMEOUT: Final = 2.0
"""Seconds within which a store answers, or is taken for dead, unless its URL says otherwise."""


class Link(ABC, Generic[C]):
    """Serves one use after another over one connection; `name` says in errors which store it is, without secrets."""

    lost: ClassVar[tuple[type[Exception], ...]] = (OSError,)
    """What it means for the connection to be gone."""

    def __init__(self, name: str, timeout: float) -> None:
        self.name = name
        self.timeout = timeout
        self._connection: C | None = None
        self._lock = asyncio.Lock()

    @abstractmethod
    async def connect(self) -> C:
        """Return a connection that may be written to, its settings checked."""

    @abstractmethod
    async def is_alive(self, connection: C) -> bool:
        """Tell whether it looks usable, as one that was cut while nobody used it does not."""

    @abstractmethod
    async def drop(self, connection: C) -> None:
        """Close it at once, whatever state it is in."""

    async def open(self) -> None:
        """Connect now; raises InvalidSettingsError where the store is not one to rely on."""
        try:
            await self.use(_nothing)
        except StoreUnavailableError as error:
            if isinstance(error.__cause__, InvalidSettingsError):
                raise error.__cause__ from None
            raise

    async def use(self, perform: Callable[[C], Awaitable[R]]) -> R:
        """Return what `perform` does over a connection; it must be harmless when repeated.

        Raises StoreUnavailableError if it was not done, UnknownOutcomeError if it may have been; within the timeout,
        and that of the use before it. Where the connection breaks, it is done once more over another.
        """
        async with self._lock:
            use = _Use()
            try:
                async with asyncio.timeout(self.timeout):
                    return await self._twice(use, perform)
            except self.lost as error:
                await self._forget()
                raise use.error(f"{self.name}: {_words(error, self.timeout)}") from error
            except InvalidSettingsError as error:
                raise use.error(str(error)) from error
            except StoreUnavailableError as error:
                if use.doubtful:
                    raise UnknownOutcomeError(str(error)) from error
                raise
            except BaseException:
                await self._forget()
                raise

    async def close(self) -> None:
        """Disconnect after the use that goes on."""
        async with self._lock:
            await self._forget()

    async def _twice(self, use: "_Use", perform: Callable[[C], Awaitable[R]]) -> R:
        try:
            return await self._once(use, perform)
        except TimeoutError:
            raise
        except self.lost as error:
            if not use.begun:
                raise
            log.warning("%s: the connection broke (%s); once more over another", self.name, error)
        use.doubtful = True
        await self._forget()
        return await self._once(use, perform)

    async def _once(self, use: "_Use", perform: Callable[[C], Awaitable[R]]) -> R:
        if self._connection is not None and not await self.is_alive(self._connection):
            await self._forget()
        if self._connection is None:
            self._connection = await self.connect()
        use.begun = True
        return await perform(self._connection)

    async def _forget(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await self.drop(connection)


class _Use:
    """How far one use has come."""

    begun = False
    doubtful = False

    def error(self, words: str) -> StoreUnavailableError | UnknownOutcomeError:
        if self.begun:
            return UnknownOutcomeError(f"{words}; whether it was written is not known")
        return StoreUnavailableError(f"{words}; nothing was written")


def _words(error: Exception, timeout: float) -> str:
    return f"no answer within {timeout:g} s" if isinstance(error, TimeoutError) else str(error) or type(error).__name__


async def _nothing(_connection: object) -> None:
    """Be connected."""

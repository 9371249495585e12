"""Taking the lease, keeping it, and knowing at any moment whether it is held."""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final, NoReturn

from onceserve_operator.election import Candidate, Terms
from onceserve_operator.errors import ApiRefusedError, ApiUnavailableError, ConflictError
from onceserve_operator.kube.lease import Lease

_LOG: Final = logging.getLogger(__name__)

# Where there is one, a clock that goes on while the machine is suspended.
_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def elapsed() -> float:
    """Return seconds by a clock of this machine that nobody sets."""
    return time.clock_gettime(_CLOCK)


class Leadership:
    """One candidate for a lease. `on_attempt` is told of each look at the lease what went wrong with it, or None.

    `on_loss` is called, with words, as soon as it is noticed that leadership is lost; it never returns.
    """

    def __init__(
        self,
        lease: Lease,
        identity: str,
        terms: Terms,
        *,
        on_attempt: Callable[[str | None], None],
        on_loss: Callable[[str], NoReturn],
        clock: Callable[[], float] = elapsed,
    ) -> None:
        self._lease = lease
        self._candidate = Candidate(identity, terms)
        self._known = False
        self._problem: str | None = None
        self._on_attempt = on_attempt
        self._on_loss = on_loss
        self._clock = clock

    async def campaign(self) -> None:
        """Return when the lease is held."""
        _LOG.info("%s stands by for the lease %s", self._candidate.identity, self._lease)
        while not await self.attempt():
            # What another does with the lease is seen by looking.
            self._known = False
            await asyncio.sleep(self._candidate.terms.retry)
        _LOG.info("%s leads, by the lease %s", self._candidate.identity, self._lease)

    @property
    def leads(self) -> bool:
        """Say whether the lease is held for certain."""
        return self._candidate.until > self._clock()

    async def hold(self) -> None:
        """Renew the lease until cancelled, or lost."""
        terms = self._candidate.terms
        renewed = True
        while True:
            try:
                async with asyncio.timeout(self.tenure()):
                    await asyncio.sleep(terms.renewal if renewed else terms.retry)
                    renewed = await self.attempt()
            except TimeoutError:
                continue

    async def attempt(self) -> bool:
        """Take or renew the lease if that may be; say whether it is held now."""
        held, problem = False, None
        try:
            held = await self._tried()
        except ConflictError:
            # Another wrote first: the next look tells who.
            pass
        except (ApiRefusedError, ApiUnavailableError) as error:
            problem = str(error)
        self._report(problem)
        return held

    def tenure(self) -> float:
        """Return for how many more seconds the lease is held for certain."""
        remaining = self._candidate.until - self._clock()
        if remaining <= 0:
            self._on_loss(f"the lease {self._lease} is lost: {self._loss()}")
        return remaining

    async def release(self) -> None:
        """Leave the lease to whoever comes first. A failure is logged: others wait until it has run out."""
        self._candidate = self._candidate.resigns()
        try:
            try:
                await self._give_up()
            except ConflictError:
                # By a renewal that was on its way.
                await self._give_up()
        except (ApiRefusedError, ApiUnavailableError) as error:
            _LOG.warning("the lease %s was not released: %s", self._lease, error)

    async def _give_up(self) -> None:
        if not self._known:
            await self._look()
        record = self._candidate.record
        if record is not None and record.holder == self._candidate.identity:
            self._known = False
            await self._lease.write("")
            _LOG.info("the lease %s is released", self._lease)

    async def _tried(self) -> bool:
        if not self._known:
            await self._look()
        if not self._candidate.may_write(self._clock()):
            return False
        began = self._clock()
        self._known = False
        record = await self._lease.write(self._candidate.identity)
        self._known = True
        self._candidate = self._candidate.wrote(record, began, self._clock())
        return self.leads

    async def _look(self) -> None:
        record = await self._lease.read()
        self._candidate = self._candidate.sees(record, self._clock())
        self._known = True

    def _report(self, problem: str | None) -> None:
        if problem != self._problem and problem is not None:
            _LOG.warning("the lease %s: %s", self._lease, problem)
        self._problem = problem
        self._on_attempt(problem)

    def _loss(self) -> str:
        record = self._candidate.record
        if record is not None and record.holder != self._candidate.identity:
            return f"{record.holder or 'nobody'} holds it"
        return self._problem or "it was not renewed in time"

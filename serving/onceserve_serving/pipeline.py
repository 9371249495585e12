"""The whole journey of a request."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple, TypeAlias, TypeVar

from onceserve_serving.admission import Admission
from onceserve_serving.batching.batcher import Batcher
from onceserve_serving.errors import InProgressError, InvalidKeyError, InvalidRequestError
from onceserve_serving.idempotency.flights import Flights
from onceserve_serving.idempotency.guard import Answered, Guard, Question
from onceserve_serving.idempotency.ledger import LedgerRow
from onceserve_serving.idempotency.record import Fingerprint, Outcome
from onceserve_serving.served import ServedModel
from onceserve_serving.tensors import Array, InferenceRequest, Signature

T = TypeVar("T")

LOOK: Final = 0.05
LOOKS: Final = 0.5
"""Seconds between two looks at a request that runs elsewhere, at first and at most: most runs are short."""


class Call(NamedTuple):
    """A request as an edge hands it over, of `size` bytes, not decoded yet.

    `deadline` is the `time.monotonic()` by which the run must have begun; None takes the
    settings' timeout. `tenant` is the owner of the API key, empty without one.
    """

    model: ServedModel
    size: int
    decode: Callable[[Signature], InferenceRequest]
    deadline: float | None = None
    tenant: str = ""


class Inference(NamedTuple):
    """What came out: the request as it was decoded and its outputs, in the order in which they were asked for."""

    model: str
    version: str
    signature: Signature
    request: InferenceRequest
    arrays: Sequence[Array]


class Keyed(NamedTuple):
    """What the edge knows of a request's key.

    `wait` is the seconds that its caller waits for another's run. `encode` and `refuse` make an outcome of what the run
    gives and of an error.
    """

    record: bytes
    fingerprint: Fingerprint
    wait: float
    encode: Callable[[Inference], Outcome]
    refuse: Callable[[Exception], Outcome]


Place: TypeAlias = tuple[ServedModel, Signature, Batcher, InferenceRequest, float, float, Admission]
"""A request that was let in, what runs it, when it arrived, when its run must have begun, and what let it in."""


class Pipeline:
    """Takes a request through decoding and the model; `timeout` is the seconds until a run must have begun."""

    def __init__(self, *, timeout: float, guard: Guard | None = None) -> None:
        self.timeout = timeout
        self._guard = guard
        self._flights: Flights[Answered] = Flights()

    def infer(self, call: Call) -> Awaitable[Inference]:
        """Answer one request; raises the domain's errors."""
        return self._admitted(call, _run)

    async def infer_once(self, call: Call, keyed: Keyed) -> Answered:
        """Return the one answer to all requests with a key; a caller who leaves does not end it.

        Raises the domain's errors, of which none is an answer: what they refuse may be asked again with the same key.
        """
        guard = self._found_guard()
        now = time.monotonic()
        model = call.model
        row = LedgerRow(call.tenant, model.name, model.sha256, model.version)
        deadline = now + max(keyed.wait, self.timeout) if call.deadline is None else call.deadline
        patient_until = min(now + keyed.wait, deadline)

        async def answer(place: Place) -> Answered:
            *_, run_by, admission = place

            async def run() -> Outcome:
                await seat.take_again(run_by)
                return keyed.encode(await _run(place))

            with guard.seat(admission, call.size) as seat:
                return await guard.answer(Question(keyed.record, keyed.fingerprint, row, keyed.refuse, seat), run)

        while True:
            try:
                answered, joined = await self._flights.join(
                    keyed.record, keyed.fingerprint, deadline, lambda: self._patiently(call, answer, patient_until)
                )
            except InvalidRequestError as error:
                refused = error
                break
            except InProgressError:
                # Who was joined may have had less patience.
                if time.monotonic() >= patient_until:
                    guard.in_progress()
                    raise
            else:
                return guard.coalesced(answered) if joined else answered
        return await self.recall(keyed, call.size, refused)

    async def recall(self, keyed: Keyed, size: int, refused: Exception) -> Answered:
        """Return the answer that was given to a request of so many bytes which would be refused now.

        A model of another signature, or another version, may have come since. Raises `refused` if none was, and the
        errors of `Guard.kept`.
        """
        kept = await self._found_guard().kept(keyed.record, keyed.fingerprint, size)
        if kept is None:
            raise refused
        return kept

    def _found_guard(self) -> Guard:
        if self._guard is None:
            raise InvalidKeyError("this server keeps no answers")
        return self._guard

    async def settled(self) -> None:
        """Return when no request with a key is on its way any more."""
        await self._flights.landed()

    async def _patiently(self, call: Call, then: Callable[[Place], Awaitable[T]], until: float) -> T:
        """Look again and again while the request runs elsewhere; who waits takes nobody's place here."""
        pause = LOOK
        while True:
            try:
                return await self._admitted(call, then)
            except InProgressError as error:
                left = until - time.monotonic()
                if left <= 0:
                    raise
                wait = min(left, error.retry_after, pause)
            await asyncio.sleep(wait)
            pause = min(2 * pause, LOOKS)

    async def _admitted(self, call: Call, then: Callable[[Place], Awaitable[T]]) -> T:
        arrived = time.monotonic()
        signature, admission, batcher = call.model.journey()
        deadline = arrived + self.timeout if call.deadline is None else call.deadline
        if not admission.enter_now():
            await admission.enter(call.size, deadline)
        try:
            admission.check_time(deadline)
            return await then((call.model, signature, batcher, call.decode(signature), arrived, deadline, admission))
        finally:
            admission.leave()


async def _run(place: Place) -> Inference:
    model, signature, batcher, request, arrived, deadline, _ = place
    arrays = await batcher.run(request.inputs, request.outputs, arrived, deadline)
    return Inference(model.name, model.version, signature, request, arrays)

"""The whole journey of a request."""

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple, TypeVar

from onceserve_serving.batching.batcher import Batcher
from onceserve_serving.errors import InvalidKeyError
from onceserve_serving.idempotency.flights import Flights
from onceserve_serving.idempotency.guard import Answered, Guard, Question
from onceserve_serving.idempotency.ledger import LedgerRow
from onceserve_serving.idempotency.record import Fingerprint, Outcome
from onceserve_serving.repository import Repository
from onceserve_serving.served import ServedModel
from onceserve_serving.tensors import Array, InferenceRequest, Signature

T = TypeVar("T")


class Call(NamedTuple):
    """A request as an edge hands it over, of `size` bytes, not decoded yet.

    `version` None takes any. `deadline` is the `time.monotonic()` by which the run must have begun; None takes the
    settings' timeout. `tenant` is the owner of the API key, empty without one.
    """

    model: str
    version: str | None
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


class Place(NamedTuple):
    """A request that was let in, and what runs it."""

    model: ServedModel
    signature: Signature
    batcher: Batcher
    request: InferenceRequest
    arrived: float
    deadline: float


class Pipeline:
    """Takes a request through decoding and the model; `timeout` is the seconds until a run must have begun."""

    def __init__(self, repository: Repository, *, timeout: float, guard: Guard | None = None) -> None:
        self.timeout = timeout
        self._repository = repository
        self._guard = guard
        self._flights: Flights[Answered] = Flights()

    async def infer(self, call: Call) -> Inference:
        """Answer one request; raises the domain's errors."""
        return await self._admitted(call, _run)

    async def infer_once(self, call: Call, keyed: Keyed) -> Answered:
        """Return the one answer to all requests with a key; a caller who leaves does not end it.

        Raises the domain's errors, of which none is an answer: what they refuse may be asked again with the same key.
        """
        guard = self._guard
        if guard is None:
            raise InvalidKeyError("this server keeps no answers")

        async def answer(place: Place) -> Answered:
            return await guard.answer(_question(call, keyed, place), _runs(keyed, place))

        wait_until = time.monotonic() + max(keyed.wait, self.timeout)
        answered, joined = await self._flights.join(
            keyed.record,
            keyed.fingerprint,
            wait_until if call.deadline is None else call.deadline,
            lambda: self._admitted(
                call, lambda place: guard.answer(_question(call, keyed, place), _runs(keyed, place))
            ),
        )
        return guard.coalesced(answered) if joined else answered

    async def settled(self) -> None:
        """Return when no request with a key is on its way any more."""
        await self._flights.landed()

    async def _admitted(self, call: Call, then: Callable[[Place], Awaitable[T]]) -> T:
        arrived = time.monotonic()
        model = self._repository.get(call.model, call.version)
        signature, admission, batcher = model.journey()
        deadline = arrived + self.timeout if call.deadline is None else call.deadline
        if not admission.enter_now():
            await admission.enter(call.size, deadline)
        try:
            admission.check_time(deadline)
            return await then(Place(model, signature, batcher, call.decode(signature), arrived, deadline))
        finally:
            admission.leave()


async def _run(place: Place) -> Inference:
    request = place.request
    arrays = await place.batcher.run(request.inputs, request.outputs, place.arrived, place.deadline)
    return Inference(place.model.name, place.model.version, place.signature, request, arrays)


def _runs(keyed: Keyed, place: Place) -> Callable[[], Awaitable[Outcome]]:
    async def run() -> Outcome:
        return keyed.encode(await _run(place))

    return run


def _question(call: Call, keyed: Keyed, place: Place) -> Question:
    model = place.model
    row = LedgerRow(call.tenant, model.name, model.sha256, model.version)
    return Question(keyed.record, keyed.fingerprint, row, place.arrived + keyed.wait, keyed.refuse)

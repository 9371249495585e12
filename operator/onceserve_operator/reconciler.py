"""One pass: observe → plan → apply → report."""

import logging
from collections.abc import Callable
from datetime import datetime

from onceserve_operator import conditions, plan, status
from onceserve_operator.conditions import Finding
from onceserve_operator.domain import Event, Key, Manifest, Observed
from onceserve_operator.errors import ApiRefusedError, ApiUnavailableError, InvalidSpecError
from onceserve_operator.kube import kinds
from onceserve_operator.kube.apply import apply
from onceserve_operator.kube.cache import Cache
from onceserve_operator.kube.client import Client
from onceserve_operator.kube.observe import observe

_LOG = logging.getLogger(__name__)


class Reconciler:
    """Brings a ModelDeployment's children and status to what its spec asks for; the same call for every cause."""

    def __init__(self, client: Client, cache: Cache, *, default_image: str, clock: Callable[[], datetime]) -> None:
        self._client = client
        self._cache = cache
        self._default_image = default_image
        self._clock = clock

    async def reconcile(self, key: Key) -> None:
        """Make one pass. Raises ApiUnavailableError: the pass is to be tried again."""
        observed = observe(self._cache, key)
        if observed is None:
            return
        try:
            spec, unknown_fields = plan.read(observed)
        except InvalidSpecError as error:
            findings = conditions.reject(str(error))
            await self._report(observed, findings, status.of_rejection(observed, findings, self._clock()))
            return
        planned = plan.make(observed, spec, self._default_image)
        refusals = await apply(self._client, self._cache, observed, planned.children)
        findings = conditions.judge(observed, spec, planned.step, refusals, unknown_fields)
        await self._report(observed, findings, status.of_step(observed, planned.step, findings, self._clock()))

    async def _report(self, observed: Observed, findings: tuple[Finding, ...], wanted: Manifest) -> None:
        if wanted == observed.status:
            return
        stored = await self._client.apply_status(observed.key, wanted)
        if stored is None:
            return
        self._cache.put(stored)
        for event in conditions.events(findings, status.previous_conditions(observed)):
            _LOG.info("%s: %s: %s", observed.key, event.reason, event.message)
            await self._tell(_reference(stored), event)

    async def _tell(self, about: Manifest, event: Event) -> None:
        """Post an Event; the condition has said it already, so that a pass never fails for it."""
        try:
            await self._client.post_event(about, event)
        except (ApiRefusedError, ApiUnavailableError) as error:
            _LOG.warning("%s: no Event: %s", about["metadata"]["name"], error)


def _reference(stored: Manifest) -> Manifest:
    kind = kinds.MODEL_DEPLOYMENT
    return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": stored["metadata"]}

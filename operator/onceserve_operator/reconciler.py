"""One pass: observe → plan → apply → report."""

import logging
from collections.abc import Callable
from datetime import datetime

from onceserve_operator import conditions, plan, status
from onceserve_operator.api.v1alpha1 import ModelDeploymentSpec
from onceserve_operator.conditions import Finding
from onceserve_operator.domain import Event, Key, Manifest, Observed, Pod, Revision, Step
from onceserve_operator.errors import ApiRefusedError, ApiUnavailableError, InvalidSpecError
from onceserve_operator.inspection.inspector import Inspector
from onceserve_operator.inspection.wanted import Shift, Wanted
from onceserve_operator.kube import kinds
from onceserve_operator.kube.apply import apply
from onceserve_operator.kube.cache import Cache
from onceserve_operator.kube.client import Client
from onceserve_operator.kube.observe import observe
from onceserve_operator.plan import Defaults
from onceserve_operator.telemetry import Metrics

_LOG = logging.getLogger(__name__)


class Reconciler:
    """Brings a ModelDeployment's children and status to what its spec asks for; the same call for every cause."""

    def __init__(
        self,
        client: Client,
        cache: Cache,
        inspector: Inspector,
        metrics: Metrics,
        *,
        defaults: Defaults,
        clock: Callable[[], datetime],
    ) -> None:
        self._client = client
        self._cache = cache
        self._inspector = inspector
        self._metrics = metrics
        self._defaults = defaults
        self._clock = clock

    async def reconcile(self, key: Key) -> float | None:
        """Make one pass; return after how many seconds time itself asks for another, if it does.

        Raises ApiUnavailableError: the pass is to be tried again.
        """
        observed = observe(self._cache, key, self._inspector.seen(key))
        if observed is None:
            self._inspector.want(key, None)
            self._metrics.gone(key)
            return None
        now = self._clock()
        try:
            spec, unknown_fields = plan.read(observed)
        except InvalidSpecError as error:
            findings = conditions.reject(str(error))
            await self._report(observed, findings, status.of_rejection(observed, findings, now))
            return None
        planned = plan.make(observed, spec, self._defaults, now)
        self._inspector.want(key, _wanted(observed, spec, planned.step))
        refusals = await apply(self._client, self._cache, observed, planned.children)
        findings = conditions.judge(observed, spec, planned.step, refusals, unknown_fields)
        wanted = status.of_step(observed, planned.step, findings, now)
        await self._report(observed, findings, wanted, planned.step.events)
        self._metrics.stands(key, planned.step.phase, spec.replicas)
        return planned.step.due

    async def _report(
        self, observed: Observed, findings: tuple[Finding, ...], wanted: Manifest, happened: tuple[Event, ...] = ()
    ) -> None:
        if wanted == observed.status:
            return
        stored = await self._client.apply_status(observed.key, wanted)
        if stored is None:
            return
        self._cache.put(stored)
        for event in (*happened, *conditions.events(findings, status.previous_conditions(observed))):
            _LOG.info("%s: %s: %s", observed.key, event.reason, event.message)
            await self._tell(_reference(stored), event)

    async def _tell(self, about: Manifest, event: Event) -> None:
        """Post an Event; the condition has said it already, so that a pass never fails for it."""
        try:
            await self._client.post_event(about, event)
        except (ApiRefusedError, ApiUnavailableError) as error:
            _LOG.warning("%s: no Event: %s", about["metadata"]["name"], error)


def _wanted(observed: Observed, spec: ModelDeploymentSpec, step: Step) -> Wanted | None:
    """Return what pods are asked while a revision is on its way; nothing else has to be known of them."""
    moving = step.moving
    if moving is None:
        return None
    return Wanted(
        revision=moving.name,
        scheme=moving.scheme,
        sha256=moving.sha256,
        verification=spec.rollout.verification,
        pods=_answering(observed, moving),
        shift=_shift(observed, moving, step.stable) if step.measures and step.stable else None,
    )


def _shift(observed: Observed, moving: Revision, stable: Revision) -> Shift:
    return Shift(
        target=_answering(observed, moving),
        stable=_answering(observed, stable),
        stable_revision=stable.name,
        stable_scheme=stable.scheme,
    )


def _answering(observed: Observed, revision: Revision) -> tuple[Pod, ...]:
    return tuple(pod for pod in observed.pods if pod.revision == revision.name and pod.ready)


def _reference(stored: Manifest) -> Manifest:
    kind = kinds.MODEL_DEPLOYMENT
    return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": stored["metadata"]}

"""One pass: observe → plan → apply → report."""

import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from onceserve_operator import conditions, plan, status
from onceserve_operator.api.autoscaling import OF_PODS
from onceserve_operator.api.v1alpha1 import ModelDeploymentSpec
from onceserve_operator.autoscaling.autoscaler import Autoscaler, Target
from onceserve_operator.conditions import Finding
from onceserve_operator.domain import Event, Key, Manifest, Observed, Pod, Revision, Scaling, Step
from onceserve_operator.errors import ApiRefusedError, ApiUnavailableError, InvalidSpecError
from onceserve_operator.inspection.inspector import Inspector
from onceserve_operator.inspection.wanted import Shift, Wanted
from onceserve_operator.kube import kinds
from onceserve_operator.kube.apply import WRITE_REFUSED, apply
from onceserve_operator.kube.cache import Cache
from onceserve_operator.kube.client import Client
from onceserve_operator.kube.observe import observe
from onceserve_operator.plan import Defaults
from onceserve_operator.telemetry import Metrics

_LOG = logging.getLogger(__name__)

SCALED = "Scaled"


class Reconciler:
    """Brings a ModelDeployment's children and status to what its spec asks for; the same call for every cause."""

    def __init__(
        self,
        client: Client,
        cache: Cache,
        inspector: Inspector,
        autoscaler: Autoscaler,
        metrics: Metrics,
        *,
        defaults: Defaults,
        clock: Callable[[], datetime],
    ) -> None:
        self._client = client
        self._cache = cache
        self._inspector = inspector
        self._autoscaler = autoscaler
        self._metrics = metrics
        self._defaults = defaults
        self._clock = clock
        self._since: datetime | None = None
        """When the first pass began: what came before, it knows from others' clocks alone."""

    async def reconcile(self, key: Key) -> float | None:
        """Make one pass; return after how many seconds time itself asks for another, if it does.

        Raises ApiUnavailableError: the pass is to be tried again.
        """
        now = self._clock()
        self._since = self._since or now
        observed = observe(self._cache, key, replace(self._inspector.seen(key), since=self._since))
        if observed is None:
            self._inspector.want(key, None)
            self._autoscaler.want(key, None)
            self._metrics.gone(key)
            return None
        try:
            spec, unknown_fields = plan.read(observed)
        except InvalidSpecError as error:
            self._inspector.want(key, None)
            self._autoscaler.want(key, None)
            findings = conditions.reject(observed, str(error))
            await self._report(observed, findings, status.of_rejection(observed, findings, now))
            return None
        planned = plan.make(observed, spec, self._defaults, now)
        self._inspector.want(key, _wanted(observed, spec, planned.step))
        self._autoscaler.want(key, _scaled(observed, spec, planned.step))
        scaling = await self._scale(observed, spec)
        refusals = await apply(self._client, self._cache, observed, planned.children)
        findings = conditions.judge(observed, spec, planned.step, refusals, unknown_fields, scaling=scaling)
        wanted = status.of_step(observed, planned.step, findings, now)
        await self._report(observed, findings, wanted, planned.step.events)
        self._metrics.stands(key, planned.step.phase, spec.replicas)
        return planned.step.due

    async def _scale(self, observed: Observed, spec: ModelDeploymentSpec) -> Scaling | None:
        """Write the replicas that the load asks for; return what autoscaling makes of it, whosever it is."""
        scaling = self._autoscaler.told(observed.key) or observed.autoscaler
        # What was decided before somebody else scaled is decided anew.
        if scaling is None or scaling.of != spec.replicas or scaling.replicas == scaling.of:
            return scaling
        try:
            await self._client.scale(observed.key, scaling.replicas, observed.version)
        except ApiUnavailableError as error:
            _LOG.warning("%s: not scaled, and it will be tried again: %s", observed.key, error)
            return scaling
        except ApiRefusedError as error:
            return replace(scaling, active=False, reason=WRITE_REFUSED, message=str(error))
        self._metrics.scalings.labels("up" if scaling.replicas > scaling.of else "down").inc()
        event = Event(SCALED, f"{scaling.of} → {scaling.replicas}: {scaling.cause}")
        _LOG.info("%s: %s: %s", observed.key, event.reason, event.message)
        await self._tell(_reference(observed.key, observed.uid), event)
        return scaling

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
            await self._tell(_reference(observed.key, observed.uid), event)

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


def _scaled(observed: Observed, spec: ModelDeploymentSpec, step: Step) -> Target | None:
    """Return whose load decides about the replicas; None where we do not: others have them, or a person wants none."""
    autoscaling = spec.autoscaling
    if autoscaling is None or autoscaling.metric in OF_PODS or spec.replicas == 0 or observed.autoscaler:
        return None
    schemes = {each.name: each.scheme for each in (*observed.revisions, step.target)}
    routed = step.moving.name if step.moving and step.routed_weight else None
    pods = tuple(
        (pod, schemes[pod.revision])
        for pod in observed.pods
        if pod.ready
        and pod.address
        and pod.revision in schemes
        and (step.traffic.reaches(pod.revision) or pod.revision == routed)
    )
    return Target(autoscaling, spec.replicas, pods)


def _answering(observed: Observed, revision: Revision) -> tuple[Pod, ...]:
    return tuple(pod for pod in observed.pods if pod.revision == revision.name and pod.ready)


def _reference(key: Key, uid: str) -> Manifest:
    kind = kinds.MODEL_DEPLOYMENT
    metadata = {"namespace": key.namespace, "name": key.name, "uid": uid}
    return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata}

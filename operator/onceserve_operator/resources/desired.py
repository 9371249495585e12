"""Resource → manifests: every child of a ModelDeployment, in the order in which they are written."""

from collections.abc import Iterable

from onceserve_operator.api.rollout import Strategy
from onceserve_operator.api.v1alpha1 import ModelDeploymentSpec
from onceserve_operator.domain import Manifest, Observed, Revision, Step
from onceserve_operator.resources import autoscaler, deployment, disruption, revision, route, service, service_account


def children(
    observed: Observed, spec: ModelDeploymentSpec, revisions: Iterable[Revision], step: Step
) -> tuple[Manifest, ...]:
    """Return all objects that should exist.

    A revision is stored before anything runs it. The Service stands before the Deployments: traffic leaves old pods
    before they are scaled down.
    """
    kept, previewed = tuple(revisions), _previewed(observed, spec, step)
    wanted = (
        service_account.manifest(observed, [each for each in kept if each.name in step.replicas]),
        *(revision.manifest(observed, each) for each in kept),
        disruption.manifest(observed, step, spec.availability),
        autoscaler.manifest(observed, spec.autoscaling),
        service.manifest(observed, step),
        service.preview(observed, previewed) if _previews(spec) else None,
        route.manifest(observed, spec.gateway, step, previewed) if spec.gateway and observed.route else None,
        *(deployment.manifest(observed, each, step.replicas.get(each.name, 0), spec.rollout) for each in kept),
    )
    return tuple(manifest for manifest in wanted if manifest is not None)


def _previews(spec: ModelDeploymentSpec) -> bool:
    return spec.rollout.strategy is Strategy.BLUE_GREEN or spec.gateway is not None


def _previewed(observed: Observed, spec: ModelDeploymentSpec, step: Step) -> Revision:
    """Return the revision that the preview Service reaches.

    A Gateway may be late: while its route could still lead there, only pods that have been found right stand behind it.
    """
    led_there = observed.route is not None and observed.route.weight > 0
    if spec.rollout.strategy is Strategy.BLUE_GREEN and not led_there:
        return step.moving or step.target
    routed = step.moving if step.routed_weight is not None else None
    return routed or step.stable or step.target

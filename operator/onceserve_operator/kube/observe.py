"""What is known of one ModelDeployment, as domain values."""

from datetime import datetime

from onceserve_contract import environment
from onceserve_operator.domain import Key, Manifest, Observed, Pod, Problem, Revision, Route, Scaling, Seen, Traffic
from onceserve_operator.kube import autoscalers, kinds, pods, routes
from onceserve_operator.kube.cache import Cache
from onceserve_operator.resources import labels, names

PROGRESS_DEADLINE_EXCEEDED = "ProgressDeadlineExceeded"
REPLICA_FAILURE = "ReplicaFailure"


def observe(cache: Cache, key: Key, seen: Seen) -> Observed | None:
    """Return what is known, or None where the resource is gone or going: its children go by their owner references."""
    resource = cache.get(kinds.MODEL_DEPLOYMENT, key.namespace, key.name)
    if resource is None or "deletionTimestamp" in resource["metadata"]:
        return None
    metadata = resource["metadata"]
    uid = metadata["uid"]
    return Observed(
        key=key,
        uid=uid,
        generation=metadata["generation"],
        version=metadata["resourceVersion"],
        spec=resource["spec"],
        status=resource.get("status", {}),
        revisions=_revisions(cache, key, uid),
        pods=_pods(cache, key, metadata["creationTimestamp"]),
        annotations=metadata.get("annotations", {}),
        replicas=_replicas(cache, key, uid),
        traffic=_traffic(cache, key, uid),
        route=_route(cache, key, uid),
        previewed=_previewed(cache, key, uid),
        autoscaler=_autoscaler(cache, key, uid),
        seen=seen,
        deployment_problems=_deployment_problems(cache, key, uid),
    )


def belongs(manifest: Manifest, uid: str) -> bool:
    """Say whether an object is owned by this very resource, not only labelled like it."""
    owners = manifest["metadata"].get("ownerReferences", [])
    return any(owner["uid"] == uid for owner in owners)


def _pods(cache: Cache, key: Key, since: str) -> tuple[Pod, ...]:
    """Return the pods; those of a former resource of this name are older than this one, and about to go."""
    ours = (each for each in cache.owned(kinds.POD, key) if each["metadata"]["creationTimestamp"] >= since)
    return tuple(pods.read(pod) for pod in ours if not pods.is_over(pod))


def _revisions(cache: Cache, key: Key, uid: str) -> tuple[Revision, ...]:
    """Return what is stored, and what Deployments alone still tell of: somebody has deleted its ControllerRevision."""
    stored = (_revision(each) for each in cache.owned(kinds.CONTROLLER_REVISION, key) if belongs(each, uid))
    run = (_run(each) for each in cache.owned(kinds.DEPLOYMENT, key) if belongs(each, uid))
    known = {revision.name: revision for revision in (*run, *stored)}
    return tuple(sorted(known.values(), key=lambda revision: revision.number, reverse=True))


def _run(deployment: Manifest) -> Revision:
    """Return the revision that a Deployment runs; its place in the history is lost, so that it counts as the oldest."""
    metadata, template = deployment["metadata"], deployment["spec"]["template"]
    variables = {each["name"]: each.get("value") for each in template["spec"]["containers"][0].get("env", [])}
    return Revision(
        name=metadata["name"],
        number=0,
        template={"metadata": {"labels": template["metadata"]["labels"]}, "spec": template["spec"]},
        created_at=datetime.fromisoformat(metadata["creationTimestamp"]),
        sha256=variables.get(environment.MODEL_SHA256),
    )


def _revision(stored: Manifest) -> Revision:
    metadata, data = stored["metadata"], stored["data"]
    return Revision(
        name=metadata["name"],
        number=stored["revision"],
        template=data["template"],
        created_at=datetime.fromisoformat(metadata["creationTimestamp"]),
        sha256=data.get("sha256"),
    )


def _replicas(cache: Cache, key: Key, uid: str) -> dict[str, int]:
    ours = (each for each in cache.owned(kinds.DEPLOYMENT, key) if belongs(each, uid))
    return {each["metadata"]["name"]: each["spec"]["replicas"] for each in ours}


def _traffic(cache: Cache, key: Key, uid: str) -> Traffic | None:
    service = cache.get(kinds.SERVICE, key.namespace, names.service(key))
    if service is None or not belongs(service, uid):
        return None
    selector: dict[str, str] = service["spec"].get("selector", {})
    return labels.traffic_of(selector)


def _route(cache: Cache, key: Key, uid: str) -> Route | None:
    if not cache.serves(kinds.HTTP_ROUTE):
        return None
    route = cache.get(kinds.HTTP_ROUTE, key.namespace, names.route(key))
    return routes.read(route if route and belongs(route, uid) else None, names.preview(key))


def _previewed(cache: Cache, key: Key, uid: str) -> str | None:
    preview = cache.get(kinds.SERVICE, key.namespace, names.preview(key))
    if preview is None or not belongs(preview, uid):
        return None
    selector: dict[str, str] = preview["spec"].get("selector", {})
    revision = selector.get(labels.REVISION, "")
    return revision if selector == labels.of_revision(key, revision) else None


def _autoscaler(cache: Cache, key: Key, uid: str) -> Scaling | None:
    autoscaler = cache.get(kinds.AUTOSCALER, key.namespace, names.autoscaler(key))
    return autoscalers.read(autoscaler) if autoscaler and belongs(autoscaler, uid) else None


def _deployment_problems(cache: Cache, key: Key, uid: str) -> dict[str, Problem]:
    ours = (each for each in cache.owned(kinds.DEPLOYMENT, key) if belongs(each, uid))
    problems = ((each["metadata"]["name"], _deployment_problem(each)) for each in ours)
    return {revision: problem for revision, problem in problems if problem}


def _deployment_problem(deployment: Manifest) -> Problem | None:
    for condition in deployment.get("status", {}).get("conditions", []):
        if condition["type"] == "ReplicaFailure" and condition["status"] == "True":
            return Problem(REPLICA_FAILURE, condition.get("message", ""))
        if condition["type"] == "Progressing" and condition.get("reason") == PROGRESS_DEADLINE_EXCEEDED:
            return Problem(PROGRESS_DEADLINE_EXCEEDED, condition.get("message", ""), permanent=True)
    return None

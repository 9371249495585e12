"""What is known of one ModelDeployment, as domain values."""

from datetime import datetime

from onceserve_operator.domain import Key, Manifest, Observed, Pod, Problem, Revision, Route, Seen, Traffic
from onceserve_operator.kube import kinds, pods, routes
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
        spec=resource["spec"],
        status=resource.get("status", {}),
        revisions=_revisions(cache, key, uid),
        pods=_pods(cache, key, metadata["creationTimestamp"]),
        annotations=metadata.get("annotations", {}),
        replicas=_replicas(cache, key, uid),
        traffic=_traffic(cache, key, uid),
        route=_route(cache, key, uid),
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
    stored = (each for each in cache.owned(kinds.CONTROLLER_REVISION, key) if belongs(each, uid))
    return tuple(sorted(map(_revision, stored), key=lambda revision: revision.number, reverse=True))


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

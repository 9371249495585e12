"""What a live HTTPRoute tells, as a domain value."""

from onceserve_operator.domain import Manifest, Route

PENDING = "Pending"

_JUDGED = {"Accepted", "ResolvedRefs"}


def read(route: Manifest | None, preview: str) -> Route:
    """Return the weight that a route gives the preview Service, and what the Gateway's controller says of the route."""
    if route is None:
        return Route(reason=PENDING, message="The HTTPRoute is not written yet")
    weight, told = _weight(route, preview), _told(route)
    if refusal := next((each for each in told if each["status"] == "False"), None):
        message = refusal.get("message") or f"{_parents(route)} says that {refusal['type']} is False"
        return Route(weight, accepted=False, reason=refusal["reason"], message=message)
    taken = next((each for each in told if (each["type"], each["status"]) == ("Accepted", "True")), None)
    if taken is None:
        message = f"{_parents(route)} has not answered: is it there, and does its controller run?"
        return Route(weight, reason=PENDING, message=message)
    return Route(weight, accepted=True, reason=taken["reason"], message=f"{_parents(route)} has accepted the HTTPRoute")


def _weight(route: Manifest, preview: str) -> int:
    backends = (each for rule in route["spec"].get("rules", []) for each in rule.get("backendRefs", []))
    return next((each["weight"] for each in backends if each["name"] == preview), 0)


def _told(route: Manifest) -> list[Manifest]:
    """Return the conditions of our parents; others may have taken the route up by a name of their own."""
    ours = {_identity(route, parent) for parent in route["spec"].get("parentRefs", [])}
    answers = route.get("status", {}).get("parents", [])
    conditions = (each for answer in answers if _identity(route, answer["parentRef"]) in ours for each in _of(answer))
    return [condition for condition in conditions if condition["type"] in _JUDGED]


def _of(answer: Manifest) -> list[Manifest]:
    conditions: list[Manifest] = answer.get("conditions", [])
    return conditions


def _identity(route: Manifest, parent: Manifest) -> tuple[str, str, str | None]:
    return parent.get("namespace", route["metadata"]["namespace"]), parent["name"], parent.get("sectionName")


def _parents(route: Manifest) -> str:
    ours = (_identity(route, parent) for parent in route["spec"].get("parentRefs", []))
    return "Gateway " + " and ".join(f"{namespace}/{name}" for namespace, name, _ in ours)

"""The Deployment of one revision."""

import math

from onceserve_operator import quantities
from onceserve_operator.api.rollout import Rollout
from onceserve_operator.domain import Manifest, Observed, Revision
from onceserve_operator.resources import labels


def manifest(observed: Observed, revision: Revision, replicas: int, rollout: Rollout) -> Manifest:
    """Return the Deployment that runs a revision's pods."""
    key = observed.key
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": labels.metadata(observed, revision.name, labels.standard_of_revision(key, revision.name)),
        "spec": {
            "replicas": replicas,
            "progressDeadlineSeconds": max(1, math.ceil(quantities.seconds(rollout.progress_deadline))),
            # Its template never changes: history is in ControllerRevisions.
            "revisionHistoryLimit": 0,
            "selector": {"matchLabels": labels.of_revision(key, revision.name)},
            "template": revision.template,
        },
    }

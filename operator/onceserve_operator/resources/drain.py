"""How long a pod that is told to end still answers."""

import math
from typing import Final

from onceserve_operator import quantities
from onceserve_operator.api.v1alpha1 import Admission

DRAIN_DELAY: Final = 5
"""Seconds that a leaving pod still answers: kube-proxy on every node has learnt of its leave by then."""
DRAIN_TIMEOUT: Final = 30
"""Seconds for requests in flight after that, where they may not wait longer in the queue."""
TERMINATION_SLACK: Final = 5
"""Seconds for the process itself to end, before the kubelet kills it."""


def drain_timeout(admission: Admission) -> int:
    """Return the seconds that requests in flight have to end."""
    return max(DRAIN_TIMEOUT, math.ceil(quantities.seconds(admission.timeout or "0s")))


def grace_period(admission: Admission) -> int:
    """Return the seconds after which the kubelet kills a pod."""
    return DRAIN_DELAY + drain_timeout(admission) + TERMINATION_SLACK

"""Ports, paths and headers of a model server."""

PORT = 8080
PORT_NAME = "http"

LIVE_PATH = "/v2/health/live"
READY_PATH = "/v2/health/ready"
METRICS_PATH = "/metrics"

SERVED_BY_HEADER = "onceserve-pod"
"""Response header naming the pod that answered."""

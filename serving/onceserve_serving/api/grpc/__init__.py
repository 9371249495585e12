"""The gRPC edge. Nothing imports it before gRPC is asked for: it costs memory and time at the start."""

import os

# gRPC's core writes lines of its own to standard error, between ours; what matters comes back as a status.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

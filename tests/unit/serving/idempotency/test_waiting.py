"""Callers who wait for another server's run, and how they pass through the pipeline."""

import asyncio
from collections.abc import AsyncIterator
from typing import cast

import numpy as np
import pytest

from onceserve_serving.batching.flush import Limits
from onceserve_serving.engine import ort
from onceserve_serving.engine.runner import InferenceThread, Runner
from onceserve_serving.errors import InProgressError, InvalidKeyError, KeyMismatchError
from onceserve_serving.idempotency.guard import Answered, Guard
from onceserve_serving.idempotency.guard import Terms as GuardTerms
from onceserve_serving.idempotency.memory import MemoryStore
from onceserve_serving.idempotency.record import Fingerprint, Outcome
from onceserve_serving.idempotency.renewal import Renewal
from onceserve_serving.idempotency.store import Claim, Completion, New, Store
from onceserve_serving.pipeline import Call, Inference, Keyed, Pipeline
from onceserve_serving.served import Capacity, ServedModel, Terms
from onceserve_serving.telemetry import Telemetry
from onceserve_serving.tensors import InferenceRequest
from unit.serving import models

from pathlib import Path

import numpy as np
from tritonclient.grpc import service_pb2 as messages

from benchmarks import grpc_load
from benchmarks.grpc_load import Comparison
from benchmarks.models import Model
from benchmarks.wrk import Load

REPORT = {
    "count": 1_000,
    "total": 2_000_000_000,
    "slowest": 9_000_000,
    "statusCodeDistribution": {"OK": 990, "Unavailable": 10},
    "latencyDistribution": [{"percentage": 50, "latency": 500_000}, {"percentage": 99, "latency": 4_000_000}],
}


def test_failed_calls_are_no_throughput() -> None:
    assert grpc_load.parse(REPORT) == Load(495.0, refused=10, broken=0, p50=500, p99=4000, most=9000)


def test_a_load_without_an_answer_has_no_latencies() -> None:
    report = REPORT | {"statusCodeDistribution": {"Unavailable": 1_000}, "latencyDistribution": None}

    assert grpc_load.parse(report) == Load(0.0, refused=1_000, broken=0, p50=0, p99=0, most=9000)


def test_a_message_has_its_length_before_it() -> None:
    model = Model("m", Path("m.onnx"), np.full((1, 100), 0.5, np.float32), np.zeros((1, 1), np.float32))

    written = grpc_load.message(model)

    # 439 bytes: the length takes two bytes of seven bits, the lower first.
    assert (written[0] & 0x7F) + (written[1] << 7) == len(written) - 2
    request = messages.ModelInferRequest.FromString(written[2:])
    assert (request.model_name, list(request.inputs[0].shape)) == ("m", [1, 100])
    assert request.raw_input_contents[0] == model.value.tobytes()


def test_grpc_is_told_as_a_share_of_http() -> None:
    over = Comparison("risk", 16, Load(250, 3, 0, 500, 4000, 0), Load(1000, 0, 0, 1, 1, 1), 0.5)

    assert "| risk, 16 connections | 250 ! | 25 % | 0.5–4 | 50 % |" in grpc_load.markdown([over])

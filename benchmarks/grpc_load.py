"""gRPC beside binary tensors over HTTP: the same server, the same rows, loaded by ghz from the other core."""

import io
import json
import os
import resource
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import tritonclient.grpc as client
from google.protobuf.proto import serialize_length_prefixed
from tritonclient.grpc import service_pb2 as messages
from tritonclient.utils import InferenceServerException

from benchmarks import environments, processes, rounds, table
from benchmarks.errors import BenchmarkError, UnservedError
from benchmarks.machine import ROOT
from benchmarks.models import INPUT, OUTPUT, Model
from benchmarks.payloads import Form
from benchmarks.rounds import Plan, Site
from benchmarks.subjects import HOST, Ours
from benchmarks.wrk import Load

MODULE: Final = "github.com/bojand/ghz/cmd/ghz"
RELEASE: Final = "v0.121.0"
PROTO: Final = ROOT / "serving" / "onceserve_serving" / "proto" / "open_inference.proto"
CALL: Final = "inference.GRPCInferenceService/ModelInfer"
BUILD: Final = 900.0
LATE: Final = 60.0


@dataclass(frozen=True)
class Comparison:
    """Loads of one model at a number of connections, over gRPC and with binary tensors over HTTP."""

    model: str
    connections: int
    grpc: Load
    http: Load
    generator_busy: float
    """Share of its core that ghz used. Near 1, the figure is that of ghz and no limit of the server."""


def install() -> Path:
    """Return the path of ghz, built by Go on first use; raises BenchmarkError where it cannot be."""
    folder = environments.cache() / f"ghz-{RELEASE}"
    if not (folder / "ghz").exists():
        print(f"building ghz {RELEASE} (once, into {folder})", file=sys.stderr, flush=True)
        _build(folder)
    return folder / "ghz"


def _build(folder: Path) -> None:
    command = ["go", "install", f"{MODULE}@{RELEASE}"]
    environment = {**os.environ, "GOBIN": str(folder)}
    try:
        subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=BUILD)
    except FileNotFoundError as error:
        raise BenchmarkError("needs Go, which builds ghz, the load generator for gRPC") from error
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        raise BenchmarkError(f"Go could not build ghz: {error.stderr!s:.2000}") from error


def run(plan: Plan) -> list[Comparison]:
    """Load our server with every model of the plan, over gRPC and over HTTP in turn."""
    install()
    return [one for model in plan.models.values() for one in _compare(model, plan)]


def _compare(model: Model, plan: Plan) -> list[Comparison]:
    print(f"gRPC: {model.name}", file=sys.stderr, flush=True)
    port = str(processes.free_port())
    ours = Ours(environment={**Ours().environment, "ONCESERVE_GRPC_PORT": port})
    with rounds.serving(ours, model, plan) as site:
        check(site)
        site.check(Form.BINARY)
        counts = plan.connections[model.name]
        load(site, max(counts), plan.warm_up, plan)
        return [_pair(site, connections, plan) for connections in counts]


def _pair(site: Site, connections: int, plan: Plan) -> Comparison:
    found, busy = load(site, connections, plan.seconds, plan)
    http = rounds.load(site, Form.BINARY, connections, plan.seconds, plan)
    check(site)
    return Comparison(site.model.name, connections, found, http, busy)


def check(site: Site) -> None:
    """Raise UnservedError unless the answer over gRPC is the one that onnxruntime gives."""
    model = site.model
    tensor = client.InferInput(INPUT, list(model.value.shape), "FP32").set_data_from_numpy(model.value)
    try:
        with client.InferenceServerClient(_address(site)) as connection:
            answer = connection.infer(model.name, [tensor]).as_numpy(OUTPUT)
    except InferenceServerException as error:
        raise UnservedError(f"does not answer {model.name} over gRPC: {error}") from error
    if not model.agrees(answer):
        raise UnservedError(f"answers {model.name} wrongly over gRPC: {answer!r:.300}")


def message(model: Model) -> bytes:
    """Return the request for one row, its tensor as raw bytes, with its length before it as ghz reads it."""
    request = messages.ModelInferRequest(model_name=model.name)
    request.inputs.add(name=INPUT, datatype="FP32", shape=model.value.shape)
    request.raw_input_contents.append(model.value.astype("<f4").tobytes())
    content = io.BytesIO()
    serialize_length_prefixed(request, content)
    return content.getvalue()


def load(site: Site, connections: int, seconds: float, plan: Plan) -> tuple[Load, float]:
    """Load a server over gRPC, one call at a time on each connection; return also how busy the generator was."""
    body = plan.scratch / "message"
    body.write_bytes(message(site.model))
    what = ["--insecure", "--proto", str(PROTO), "--call", CALL, "--binary-file", str(body), _address(site)]
    # It would count the calls that it breaks off at the end as failed.
    how = ["--duration", f"{seconds:g}s", "--duration-stop", "wait", "--cpus", "1", "--format", "json"]
    many = ["--concurrency", str(connections), "--connections", str(connections)]
    command = processes.pinned(plan.cores.load, [str(install()), *how, *many, *what])
    before = _children_seconds()
    report = json.loads(processes.collect(command, seconds + LATE))
    return parse(report), round((_children_seconds() - before) / (report["total"] / 1e9), 2)


def _children_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _address(site: Site) -> str:
    return f"{HOST}:{site.subject.environment['ONCESERVE_GRPC_PORT']}"


def parse(report: Mapping[str, Any]) -> Load:
    """Read ghz's report: times in nanoseconds, the total that of the whole load."""
    good = report["statusCodeDistribution"].get("OK", 0)
    percentiles = {one["percentage"]: one["latency"] // 1000 for one in report["latencyDistribution"] or ()}
    return Load(
        good_per_second=round(good / (report["total"] / 1e9), 1),
        refused=report["count"] - good,
        broken=0,
        p50=percentiles.get(50, 0),
        p99=percentiles.get(99, 0),
        most=report["slowest"] // 1000,
    )


def markdown(found: list[Comparison]) -> str:
    """Return the table."""
    rows = [["gRPC", "calls a second", "of HTTP with binary tensors", "p50–p99, ms", "ghz busy"]]
    rows.extend(
        [
            f"{one.model}, {one.connections} connection{'s' if one.connections > 1 else ''}",
            table.rate({1: one.grpc}),
            f"{100 * one.grpc.good_per_second / one.http.good_per_second:.0f} %" if one.http.good_per_second else "–",
            f"{one.grpc.p50 / 1e3:.3g}–{one.grpc.p99 / 1e3:.3g}",
            f"{100 * one.generator_busy:.0f} %",
        ]
        for one in found
    )
    return table.markdown(rows)

"""The page at `/`: tells a person what this is, with a command that works."""

import html
import re
import shlex
from math import prod
from typing import Any, Final

import orjson

from onceserve_serving import __version__
from onceserve_serving.served import ServedModel
from onceserve_serving.tensors import Signature, TensorSpec

MOST_ELEMENTS: Final = 1_000
"""Elements above which an example is no longer something to paste into a terminal."""

_HOST: Final = re.compile(r"[A-Za-z0-9.:\[\]-]{1,255}")

PAGE: Final = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{name} on OnceServe</title>
<style>body{{font:16px/1.5 system-ui,sans-serif;max-width:52rem;margin:3rem auto;padding:0 1rem}}
pre{{background:#8881;padding:1rem;white-space:pre-wrap;overflow-wrap:anywhere}}</style>
<h1>{name}</h1>
<p>OnceServe {server} serves this model, version {version}, over the Open Inference Protocol. State: {state}.</p>
<p>Ask it:</p>
<pre>{command}</pre>
<p><a href="/v2/models/{name}">its inputs and outputs</a> · <a href="/docs">the API</a> ·
<a href="/v2/health/ready">readiness</a> · <a href="/metrics">metrics</a></p>
</html>
"""


def render(model: ServedModel, host: str) -> str:
    """Return the page; `host` is what the client called this server."""
    return PAGE.format(
        name=html.escape(model.name),
        server=html.escape(__version__),
        version=html.escape(model.version),
        state=html.escape(model.lifecycle.describe()),
        command=html.escape(_command(model, host if _HOST.fullmatch(host) else "localhost")),
    )


def example(signature: Signature) -> dict[str, Any] | None:
    """Return a request body that the model takes, or None if it would be too long to read."""
    if sum(prod(_shape(spec)) for spec in signature.inputs.values()) > MOST_ELEMENTS:
        return None
    return {"inputs": [_tensor(spec) for spec in signature.inputs.values()]}


def _command(model: ServedModel, host: str) -> str:
    url = f"http://{host}/v2/models/{model.name}"
    body = example(model.signature) if model.signature else None
    if body is None:
        return f"curl {url}"
    return f"curl {url}/infer -H 'Content-Type: application/json' -d {shlex.quote(orjson.dumps(body).decode())}"


def _shape(spec: TensorSpec) -> list[int]:
    return [max(size, 1) if size < 0 else size for size in spec.shape]


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    blank = {"BOOL": False, "BYTES": ""}.get(spec.datatype, 0)
    shape = _shape(spec)
    return {"name": spec.name, "datatype": spec.datatype, "shape": shape, "data": [blank] * prod(shape)}

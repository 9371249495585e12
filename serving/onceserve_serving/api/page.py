"""The pages for people: what this is, with commands that work, and the API to try."""

import html
import re
from pathlib import Path
from typing import Final
from urllib.parse import quote

from onceserve_serving import __version__
from onceserve_serving.api import examples
from onceserve_serving.served import ServedModel, State

_HOST: Final = re.compile(r"[A-Za-z0-9.:\[\]-]{1,255}")

PAGE: Final = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>OnceServe</title>
<style>body{{font:16px/1.5 system-ui,sans-serif;max-width:52rem;margin:3rem auto;padding:0 1rem}}
pre{{background:#8881;padding:1rem;white-space:pre-wrap;overflow-wrap:anywhere}}</style>
<h1>OnceServe</h1>
<p>OnceServe {server} serves models over the Open Inference Protocol. State: {state}.</p>
{models}
<p><a href="/docs">the API</a> · <a href="/v2/health/ready">readiness</a> · <a href="/metrics">metrics</a></p>
</html>
"""

MODEL: Final = """<h2>{name}</h2>
<p>Version {version}, {state}. <a href="{path}">Its inputs and outputs</a>. Ask it:</p>
<pre>{command}</pre>
"""

DOCS: Final = Path(__file__).with_name("docs.html").read_text(encoding="utf-8")
"""The page that shows the OpenAPI document of its own server, and tries its operations."""

SELF_CONTAINED: Final = {
    "Content-Security-Policy": "default-src 'none'; connect-src 'self'; img-src data:; "
    "script-src 'unsafe-inline'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
}
"""Has browsers refuse whatever comes from or goes to another host."""


def render(models: list[ServedModel], state: str, scheme: str, host: str, *, keys: bool = False) -> str:
    """Return the page at `/`.

    `state` is the server's, `scheme` and `host` are what the client called it by, `keys` whether callers need one.
    """
    origin = f"{scheme}://{host if _HOST.fullmatch(host) else 'localhost'}"
    return PAGE.format(
        server=html.escape(__version__),
        state=html.escape(state),
        models="".join(_section(model, origin, keys=keys) for model in models),
    )


def _section(model: ServedModel, origin: str, *, keys: bool) -> str:
    path = f"/v2/models/{quote(model.name)}"
    return MODEL.format(
        name=html.escape(model.name),
        version=html.escape(model.version),
        state=html.escape(model.describe()),
        path=html.escape(path),
        command=html.escape(_command(model, origin + path, keys=keys)),
    )


def _command(model: ServedModel, url: str, *, keys: bool) -> str:
    if model.state is State.READY:
        return examples.command(model.runner(), url, keys=keys)
    return f"curl {url}{examples.KEY if keys else ''}"

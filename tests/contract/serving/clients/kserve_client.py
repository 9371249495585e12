"""Asks one model with KServe's two inference clients, unchanged; prints what they got as JSON.

Runs in an environment of its own: `kserve_client.py HTTP_URL GRPC_TARGET MODEL ROWS`, with rows as JSON.
"""

import asyncio
import json
import sys
from typing import Any

import numpy as np
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig


def request(model: str, rows: np.ndarray[Any, Any], form: str) -> InferRequest:
    """Return a request in one of the client's forms: a list, or binary tensors both ways."""
    tensor = InferInput(name="X", shape=list(rows.shape), datatype="FP32")
    tensor.set_data_from_numpy(rows, binary_data=form == "binary")
    parameters = {"binary_data_output": True} if form == "binary" else None
    return InferRequest(model_name=model, infer_inputs=[tensor], request_id=form, parameters=parameters)


def told(answer: Any) -> dict[str, Any]:
    """Return an answer in JSON's types; floats in hex, since every bit counts."""
    arrays = {output.name: output.as_numpy() for output in answer.outputs}
    exact = {name: [list(one.shape), str(one.dtype), one.tobytes().hex()] for name, one in arrays.items()}
    return {"id": answer.id, "model": answer.model_name, "outputs": exact}


async def main(url: str, target: str, model: str, rows: np.ndarray[Any, Any]) -> dict[str, Any]:
    """Ask over both protocols in both forms, and about readiness."""
    rest, rpc = InferenceRESTClient(RESTConfig(protocol="v2")), InferenceGRPCClient(target)
    answers = {}
    for form in ("list", "binary"):
        answers[f"rest {form}"] = told(await rest.infer(url, request(model, rows, form), model_name=model))
        answers[f"grpc {form}"] = told(await rpc.infer(request(model, rows, form)))
    ready = [
        await rest.is_server_live(url),
        await rest.is_server_ready(url),
        await rest.is_model_ready(url, model),
        await rpc.is_server_live(),
        await rpc.is_server_ready(),
        await rpc.is_model_ready(model),
    ]
    await rest.close()
    await rpc.close()
    return {"answers": answers, "ready": ready}


if __name__ == "__main__":
    where, address, name, given = sys.argv[1:]
    print(json.dumps(asyncio.run(main(where, address, name, np.array(json.loads(given), dtype=np.float32)))))

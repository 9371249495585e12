"""Calls of a model over TLS by REST and gRPC, run in a pod that knows the cluster's DNS.

    python guarded_calls.py HOST MODEL AUTHORITY KEY BODY ROW

AUTHORITY is PEM, BODY a request in JSON, ROW its one row of numbers. Prints one JSON object: the certificate's `serial`
number, `rest` and `grpc` as status and answer, and `crowd`, the statuses of a few REST calls made at once.
"""

import http.client
import json
import socket
import ssl
import sys
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np

from onceserve_serving.proto import open_inference_pb2 as messages

CROWD = 4
TIMEOUT = 10.0


class Caller:
    """Calls one model with one key."""

    def __init__(self, host: str, model: str, authority: str, key: str) -> None:
        self._host, self._model, self._key = host, model, key
        self._authority = authority.encode()
        self._context = ssl.create_default_context(cadata=authority)

    def serial(self) -> str:
        """Return the serial number of the certificate that is shown."""
        with (
            socket.create_connection((self._host, 443), TIMEOUT) as plain,
            self._context.wrap_socket(plain, server_hostname=self._host) as secure,
        ):
            shown = secure.getpeercert() or {}
            return str(shown["serialNumber"])

    def rest(self, body: str) -> tuple[int, str]:
        """Return status and body of an inference."""
        connection = self._connection()
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self._key}"}
        connection.request("POST", f"/v2/models/{self._model}/infer", body, headers)
        response = connection.getresponse()
        answer = response.read().decode()
        connection.close()
        return response.status, answer

    def grpc(self, row: list[float]) -> tuple[str, dict[str, list[float]]]:
        """Return the name of the status and the outputs of an inference."""
        tensor = messages.ModelInferRequest.InferInputTensor(name="X", datatype="FP32", shape=[1, len(row)])
        raw = np.array(row, dtype=np.float32).tobytes()
        request = messages.ModelInferRequest(model_name=self._model, inputs=[tensor], raw_input_contents=[raw])
        credentials = grpc.ssl_channel_credentials(self._authority)
        with grpc.secure_channel(f"{self._host}:8081", credentials) as channel:
            infer = channel.unary_unary(
                "/inference.GRPCInferenceService/ModelInfer",
                request_serializer=messages.ModelInferRequest.SerializeToString,
                response_deserializer=messages.ModelInferResponse.FromString,
            )
            try:
                response = infer(request, timeout=TIMEOUT, metadata=[("x-api-key", self._key)])
            except grpc.RpcError as error:
                return error.code().name, {}
        kinds = {"FP32": np.float32, "INT64": np.int64}
        pairs = zip(response.outputs, response.raw_output_contents, strict=True)
        return "OK", {output.name: np.frombuffer(raw, kinds[output.datatype]).tolist() for output, raw in pairs}

    def crowd(self, body: str) -> list[int]:
        """Return the statuses of calls made at once."""
        with ThreadPoolExecutor(CROWD) as pool:
            return sorted(status for status, _ in pool.map(self.rest, [body] * CROWD))

    def _connection(self) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection(self._host, context=self._context, timeout=TIMEOUT)


def main() -> None:
    """Make all calls and print what came of them."""
    host, model, authority, key, body, row = sys.argv[1:]
    caller = Caller(host, model, authority, key)
    seen = {"serial": caller.serial(), "rest": caller.rest(body), "grpc": caller.grpc(json.loads(row))}
    print(json.dumps({**seen, "crowd": caller.crowd(body)}))


if __name__ == "__main__":
    main()

"""Makes the Python of `open_inference.proto` with protoc."""

import tempfile
from functools import cache
from pathlib import Path

from grpc_tools import protoc

SOURCES = Path(__file__).resolve().parent.parent / "serving"
PROTO = Path("onceserve_serving/proto/open_inference.proto")

DEFAULT_POOL = "_descriptor_pool.Default()"
OWN_POOL = "_descriptor_pool.DescriptorPool()"


def messages() -> str:
    """Return the module of the messages."""
    # Clients of Triton and KServe register the same names, and one process may hold a client and a server.
    return _compiled("--python_out", ".py").replace(DEFAULT_POOL, OWN_POOL)


def types() -> str:
    """Return the stub with the messages' types."""
    # protoc leaves out what the keys and values are, which strict typing asks for.
    return _compiled("--pyi_out", ".pyi").replace("_Mapping]", "_Mapping[str, object]]")


@cache
def _compiled(output: str, suffix: str) -> str:
    with tempfile.TemporaryDirectory() as folder:
        status = protoc.main(["protoc", f"--proto_path={SOURCES}", f"{output}={folder}", str(PROTO)])
        if status != 0:
            raise RuntimeError(f"protoc ended with {status}")
        return (folder / PROTO.with_name(f"{PROTO.stem}_pb2{suffix}")).read_text()

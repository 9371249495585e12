"""Our `.proto` against the one that real clients carry."""

from google.protobuf import descriptor
from tritonclient.grpc import service_pb2 as theirs

from onceserve_serving.proto import open_inference_pb2 as ours

KSERVE_ALONE = {"RepositoryModelLoadResponse", "RepositoryModelUnloadResponse"}
"""What KServe's protocol has fields in and Triton's has not."""


def shape(message: descriptor.Descriptor) -> dict[str, object]:
    """What decides how a message looks on the wire."""
    fields = {
        one.name: (one.number, one.type, one.is_repeated, one.message_type and one.message_type.name)
        for one in message.fields
    }
    return {"": fields, **{one.name: shape(one) for one in message.nested_types}}


def test_every_message_is_the_clients() -> None:
    for name, message in ours.DESCRIPTOR.message_types_by_name.items():
        if name not in KSERVE_ALONE:
            assert shape(message) == shape(theirs.DESCRIPTOR.message_types_by_name[name]), name


def test_every_method_is_the_clients() -> None:
    here, there = (one.DESCRIPTOR.services_by_name["GRPCInferenceService"] for one in (ours, theirs))
    assert here.full_name == there.full_name
    for method in here.methods:
        same = there.methods_by_name[method.name]
        assert (method.input_type.full_name, method.output_type.full_name) == (
            same.input_type.full_name,
            same.output_type.full_name,
        )

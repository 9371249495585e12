"""What clients were told and what the store has, and which promises that breaks."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple


class Row(NamedTuple):
    """A completion, within the so-many-th retention of the key."""

    epoch: int
    body: bytes


class Reply(NamedTuple):
    """What a client was told for good, None for 422, and the epochs at its call and at its return."""

    request: bytes
    body: bytes | None
    called: int
    returned: int


def judge(replies: Sequence[Reply], rows: Sequence[Row]) -> Iterator[str]:
    """Tell which promises a history breaks."""
    epochs = {row.body: row.epoch for row in rows}
    for epoch in sorted(set(epochs.values())):
        yield from _judge_epoch(
            [row for row in rows if row.epoch == epoch],
            {reply.body for reply in replies if reply.body is not None and epochs.get(reply.body) == epoch},
            {reply.request for reply in replies if reply.body is None and reply.called == reply.returned == epoch},
        )
    for reply in replies:
        if reply.body is not None and reply.body not in epochs:
            yield f"G1: an answer is not what the store has: {reply}"
        if reply.body is not None and not reply.body.startswith(reply.request + b" "):
            yield f"G3: a request was given another's answer: {reply}"


def _judge_epoch(rows: Sequence[Row], told: set[bytes], refused: set[bytes]) -> Iterator[str]:
    if len(rows) > 1:
        yield f"G2: there are {len(rows)} completions: {rows}"
    if len(told) > 1:
        yield f"G1: there are {len(told)} answers: {told}"
    if {body[:1] for body in told} & refused:
        yield f"G3: a request was answered and refused: {refused}"

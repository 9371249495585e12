"""Asks a served breast-cancer model about every row of the test set, and tells how right it was and who answered.

    python examples/breast-cancer/client.py URL [--test-set FILE] [--show N]

URL is the one of the ModelDeployment, such as http://breast-cancer.default.svc. Needs Python's standard library only.
"""

import argparse
import json
import statistics
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from pathlib import Path
from typing import NamedTuple

MODEL = "breast-cancer"
DIAGNOSES = ("malignant", "benign")
TIMEOUT = 10


class Answer(NamedTuple):
    """What came back for one row."""

    label: int
    probability: float
    pod: str
    seconds: float


def infer(url: str, row: list[float]) -> Answer:
    """Ask by a connection of its own, so that the Service chooses a pod each time."""
    tensor = {"name": "X", "datatype": "FP32", "shape": [1, len(row)], "data": row}
    body = json.dumps({"inputs": [tensor]}).encode()
    request = urllib.request.Request(  # noqa: S310 - the person who calls gives the URL
        f"{url}/v2/models/{MODEL}/infer", body, {"Content-Type": "application/json"}
    )
    start = time.perf_counter()
    with urllib.request.urlopen(request, timeout=TIMEOUT) as response:  # noqa: S310
        outputs = {output["name"]: output["data"] for output in json.load(response)["outputs"]}
        seconds = time.perf_counter() - start
        label = outputs["label"][0]
        return Answer(label, outputs["probabilities"][label], response.headers["onceserve-pod"], seconds)


def show(row: list[float], answer: Answer, label: int) -> None:
    given = ", ".join(f"{value:g}" for value in row[:4])
    verdict = "right" if answer.label == label else "wrong"
    said = f"{DIAGNOSES[answer.label]} ({answer.probability:.1%})"
    print(f"  [{given}, … 30 values] → {said:<20} {verdict}, from {answer.pod} in {1000 * answer.seconds:.1f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("--test-set", type=Path, default=Path(__file__).with_name("test-set.json"))
    parser.add_argument("--show", type=int, default=5, help="answers to print (default: %(default)s)")
    arguments = parser.parse_args()
    test_set = json.loads(arguments.test_set.read_text())
    answers = []
    for number, (row, label) in enumerate(zip(test_set["rows"], test_set["labels"], strict=True)):
        try:
            answer = infer(arguments.url.rstrip("/"), row)
        except urllib.error.HTTPError as error:
            sys.exit(f"row {number}: {error.code} {error.read().decode(errors='replace')}")
        except OSError as error:
            sys.exit(f"row {number}: {error}")
        answers.append(answer)
        if number < arguments.show:
            show(row, answer, label)
    report(answers, test_set["labels"])


def report(answers: list[Answer], labels: list[int]) -> None:
    right = sum(answer.label == label for answer, label in zip(answers, labels, strict=True))
    times = sorted(answer.seconds for answer in answers)
    print(f"\n  accuracy: {right / len(answers):.1%} ({right} of {len(answers)} held-out cases)")
    print(f"  latency:  {1000 * statistics.median(times):.1f} ms median, each call on a new connection")
    print("  answered by:")
    for pod, calls in sorted(Counter(answer.pod for answer in answers).items()):
        print(f"    {pod}  {calls:3} calls")


if __name__ == "__main__":
    main()

"""`session.run` with nothing around it: `python -m benchmarks.apps.raw MODEL SECONDS BATCH` prints one JSON object."""

import json
import sys
import time
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.models import INPUT, OUTPUT, SEED, SHAPES, session


def main() -> None:
    """Run the model for some seconds and print rows a second and the median microseconds of a run."""
    path, seconds, batch = Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
    run = session(path).run
    inputs = {INPUT: np.random.default_rng(SEED).random((batch, *SHAPES[path.stem]), np.float32)}
    for _ in range(20):
        run([OUTPUT], inputs)
    times = []
    end = time.perf_counter() + seconds
    while (started := time.perf_counter()) < end:
        run([OUTPUT], inputs)
        times.append(time.perf_counter() - started)
    print(json.dumps({"rows_per_second": round(batch * len(times) / sum(times), 1), "p50": median(times) * 1e6}))


if __name__ == "__main__":
    main()

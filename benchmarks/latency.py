"""One image: what answers `tuner predict`, against Keras' own ways to ask a model.

    python -m benchmarks.latency [--short] [--calls 2000]

Every sample is a process of its own on one processor thread, as promotion measures latency. A
28x28 image goes in as bytes, probabilities come out as an array, one image at a time, warm.
"""

from functools import partial

from benchmarks.harness import Result, interleaved, parser
from benchmarks.process import Ran, python, run_process

BASE = "tf.function(model)(x)"
"""What an engineer who cares for latency writes."""
_WAYS = {
    BASE: "function",
    "model.predict_on_batch(x)": "predict_on_batch",
    "model(x)": "call",
    "model.predict(x)": "predict",
    "tuner's predictor": "predictor",
}
_MEASURES = ("p50", "p95", "p99", "max")
_ONE_THREAD = {
    "CUDA_VISIBLE_DEVICES": "-1",
    "OMP_NUM_THREADS": "1",
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
}


def main() -> None:
    """Measures every way, interleaved, and writes `latency-<cpu|gpu>.json`."""
    arguments = parser(__doc__, rounds=3)
    arguments.add_argument("--calls", type=int, default=2000)
    asked = arguments.parse_args()
    if asked.short:
        asked.rounds, asked.calls = 1, 500
    found = interleaved(
        {name: partial(_sample, way, asked.calls) for name, way in _WAYS.items()}, asked.rounds
    )
    result = Result("latency", {"calls": asked.calls, "threads": 1})
    for measure in _MEASURES:
        for subject, samples in found.items():
            result.add(subject, measure, "ms", [sample.answer[measure] for sample in samples])
        result.compare(BASE, measure)
    result.finish(asked)


def _sample(way: str, calls: int) -> Ran:
    return run_process(python("asking", way, "--calls", calls), _ONE_THREAD)


if __name__ == "__main__":
    main()

"""Time one tool over a list of images: ``python loop.py REQUEST.json``, by the Python of any environment.

The request names a module beside this file, such as ``peer_litert``. Its ``open_peer(request)`` gives three things: the
runtime and its version, a function from the path of an image to its answer, and facts about the model. The function
gives the answer, a label or the scores of all labels, and the nanoseconds of inference alone, or None where the tool
does not show them. The last line of standard output is the result, as JSON.

Only the standard library is used, because each tool lives in an environment of its own.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

_REASON_CHARACTERS = 300
_Classify = Callable[[str], tuple[Any, int | None]]


def label_of(answer: Any, labels: Sequence[str], threshold: float) -> str:
    """The label of an answer: itself, the first of the largest scores, or by the threshold where there is one score."""
    if isinstance(answer, str):
        return answer
    scores = [float(score) for score in answer]
    if len(scores) == 1:
        return labels[int(scores[0] >= threshold)]
    return labels[scores.index(max(scores))]


def time_images(classify: _Classify, request: dict[str, Any]) -> dict[str, Any]:
    """Each image once, from file to label; one that fails is told by its index and costs no time."""
    answers: list[str | None] = []
    total_ns: list[int | None] = []
    inference_ns: list[int | None] = []
    errors: dict[str, str] = {}
    cpu_started_ns = time.process_time_ns()
    for index, path in enumerate(request["pictures"]):
        started_ns = time.perf_counter_ns()
        try:
            answer, inner_ns = classify(path)
            label = label_of(answer, request["labels"], request["threshold"])
        except Exception as error:  # noqa: BLE001  a foreign tool may raise anything; its reason is the result
            answers.append(None)
            total_ns.append(None)
            inference_ns.append(None)
            errors[str(index)] = reason(error)
            continue
        total_ns.append(time.perf_counter_ns() - started_ns)
        answers.append(label)
        inference_ns.append(inner_ns)
    cpu_ns = time.process_time_ns() - cpu_started_ns
    return {
        "answers": answers,
        "total_ns": total_ns,
        "inference_ns": inference_ns,
        "errors": errors,
        "cpu_ns": cpu_ns,
    }


def try_awkward(opener: Callable[[dict[str, Any]], tuple[str, _Classify, Any]], request: dict[str, Any]) -> list[str]:
    """What becomes of each awkward file: ``answered`` or why not, and whether the tool still works after it."""
    _, classify, _ = opener(request)
    outcomes = []
    for path in request["awkward"]:
        try:
            classify(path)
        except Exception as error:  # noqa: BLE001  as above
            outcome = f"refused: {reason(error)}"
        else:
            outcome = "answered"
        try:
            classify(request["pictures"][0])
        except Exception as error:  # noqa: BLE001  as above
            outcome = f"{outcome}; then it answers no other image either: {reason(error)}"
            _, classify, _ = opener(request)
        outcomes.append(outcome)
    return outcomes


def reason(error: Exception) -> str:
    """One line for a person."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:_REASON_CHARACTERS]


def peak_bytes() -> int | None:
    """Largest resident memory of this process, or None where the kernel does not say."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    peaks = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
    return int(peaks[0]) * 1024 if peaks else None


def run(request: dict[str, Any]) -> dict[str, Any]:
    """Do what the request says; the moment of the first answer is on the clock that all processes share."""
    try:
        peer = importlib.import_module(request["peer"])
        if request["awkward"]:
            return {"awkward": try_awkward(peer.open_peer, request)}
        runtime, classify, facts = peer.open_peer(request)
        answer, _ = classify(request["pictures"][0])
        label_of(answer, request["labels"], request["threshold"])
        answered_ns = time.monotonic_ns()
        for path in request["pictures"][: request["warm_up"]]:
            classify(path)
    except Exception as error:  # noqa: BLE001  as above
        return {"error": reason(error)}
    seen = time_images(classify, request)
    return {"runtime": runtime, "facts": facts, "answered_ns": answered_ns, **seen, "peak_bytes": peak_bytes()}


if __name__ == "__main__":
    result = run(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    print(f"\n{json.dumps(result)}", flush=True)

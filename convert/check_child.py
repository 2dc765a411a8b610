"""Runs finished artifacts over the check and golden inputs; a process of its own that never imports TensorFlow.

``python -m convert.check_child JOB.json`` writes, for each artifact, its observation as JSON and its probabilities.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from convert.job import CHECK_FILE, GOLDEN_INPUT_FILE, CheckJob, Observation, read_json, write_json
from edge_runtime.child import die_with_parent
from edge_runtime.classifier import Classifier


def main() -> None:
    """Read the job named on the command line and carry it out."""
    die_with_parent()
    job = read_json(Path(sys.argv[1]), CheckJob)
    for file in job.files:
        check(Path(file), Path(job.work_dir))
        print(file, flush=True)
    if "tensorflow" in sys.modules:
        raise SystemExit("the check process imported TensorFlow, so it proves nothing about a device")


def check(file: Path, work_dir: Path) -> None:
    """Run one artifact exactly as a device would and save what it gave, float32 [images, labels]."""
    with Classifier(file) as classifier:
        for name in (CHECK_FILE, GOLDEN_INPUT_FILE):
            images_nhwc_rgb_u8 = np.load(work_dir / name, mmap_mode="r")
            outputs = [classifier.probabilities(image) for image in images_nhwc_rgb_u8]
            np.save(work_dir / f"{file.name}-{name}", np.stack(outputs))
        engine = classifier.engine
        observation = Observation(f"{engine.name} {engine.version}", engine.input, engine.output)
    write_json(work_dir / f"{file.name}.json", observation)


if __name__ == "__main__":
    main()

"""A camera at a bird feeder: a line and an image of every visit, and a count at the end.

    pip install edgekit
    python feeder_camera.py bundles/birds --source picamera --ignore empty --save visits

Images go to ``visits/<label>``; the oldest are removed when they take more than a gigabyte. What the model was unsure
of goes to ``visits/unsure-<label>``: sort it by hand, and ``edge-train run --data visits`` makes a better model of it.
``--post https://example.org/hook`` sends each visit as JSON too. Ctrl-C ends it.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path

from edge_runtime import (
    Classified,
    Classifier,
    Decider,
    EdgeKitError,
    SaveChoice,
    Sink,
    WebhookSink,
    classify_frames,
    open_frame_sink,
    open_save_frames,
    open_source,
)

SURE = 0.6
VISIT_PAUSE_S = 2.0


def watch(
    classifier: Classifier, source_name: str, sinks: Sequence[Sink], ignored: Collection[str], visits: Counter[str]
) -> None:
    """Give every result to the sinks until the source ends, and count visits by label."""
    # An average over about the last three frames; the same bird is told again after it was gone.
    decider = Decider.of(classifier, "0.3", threshold=SURE, ignored=ignored, min_interval_s=VISIT_PAUSE_S)
    with open_source(source_name) as source:
        for result, image_hwc_rgb_u8 in classify_frames(source, classifier, decider):
            for sink in sinks:
                sink.write(result, image_hwc_rgb_u8)
            if isinstance(result, Classified) and result.decision and result.decision.event:
                visits[str(result.decision.label)] += 1


def run(asked: argparse.Namespace, visits: Counter[str]) -> None:
    """Open the model and the sinks, and watch."""
    with contextlib.ExitStack() as stack:
        classifier = stack.enter_context(Classifier(asked.model))
        sinks = [
            # Lines on standard output, for events only.
            open_frame_sink("text", sys.stdout, classifier.labels, 1, every="event"),
            # This and the next work in threads of their own, so that a slow disk or network never delays the camera.
            open_save_frames(asked.save, classifier.labels, choices=list(SaveChoice), threshold=SURE),
        ]
        if asked.post:
            sinks.append(WebhookSink.open(asked.post, name="feeder"))
        for sink in sinks:
            stack.callback(sink.close)
        watch(classifier, asked.source, sinks, asked.ignore, visits)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="bundle, .tflite or .onnx file")
    parser.add_argument("--source", default="0", help="camera, picamera, stream or video file (default: 0)")
    parser.add_argument("--ignore", action="append", default=[], metavar="LABEL", help="a label that is no visit")
    parser.add_argument("--save", type=Path, default=Path("visits"), help="folder for images (default: visits)")
    parser.add_argument("--post", metavar="URL", help="web address that gets each visit")
    asked = parser.parse_args()
    visits: Counter[str] = Counter()
    try:
        with contextlib.suppress(KeyboardInterrupt):
            run(asked, visits)
    except EdgeKitError as error:
        sys.exit(f"feeder_camera: {error}")
    print(", ".join(f"{label} {count}" for label, count in visits.most_common()) or "no visits")


if __name__ == "__main__":
    main()

"""A light that is on while a camera sees something.

On a Raspberry Pi, with a light-emitting diode and its resistor at pin GPIO17:

    pip install edgekit gpiozero lgpio
    python gpio_light.py bundles/pets cat --source 0 --pin 17

``--dry-run`` prints what the light would do, and needs neither the board nor gpiozero. Ctrl-C ends it, light off.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from typing import Protocol

from edge_runtime import (
    Classified,
    Classifier,
    Decider,
    EdgeKitError,
    SourceState,
    UsageError,
    classify_frames,
    open_source,
)


class Light(Protocol):
    """What gpiozero.LED has, as far as it is used here."""

    def on(self) -> None: ...  # noqa: D102

    def off(self) -> None: ...  # noqa: D102

    def close(self) -> None: ...  # noqa: D102


class PrintedLight:
    """Stands in for a light."""

    def on(self) -> None:
        """Say so."""
        print("light on", flush=True)

    def off(self) -> None:
        """Say so."""
        print("light off", flush=True)

    def close(self) -> None:
        """Do nothing."""


def open_light(pin: int, *, dry_run: bool) -> Light:
    """The light at a pin, by its GPIO number."""
    if dry_run:
        return PrintedLight()
    import gpiozero  # type: ignore[import-not-found, import-untyped, unused-ignore]

    light: Light = gpiozero.LED(pin)
    return light


def run(model: str, label: str, source_name: str, light: Light, threshold: float) -> None:
    """Switch the light until the source ends."""
    with Classifier(model) as classifier, open_source(source_name) as source:
        if label not in classifier.labels:
            raise UsageError(f"{label}: is no label of {model}, which has {', '.join(classifier.labels)}")
        # One frame may be wrong; three of five hardly are.
        decider = Decider.of(classifier, "3/5", threshold=threshold)
        is_on = False
        for result, _ in classify_frames(source, classifier, decider, top_k=1):
            if isinstance(result, Classified):
                wanted = result.decision is not None and result.decision.label == label
            else:
                # A camera that is away sees nothing.
                wanted = is_on and result.state is SourceState.CONNECTED
            if wanted != is_on:
                is_on = wanted
                (light.on if is_on else light.off)()


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="bundle, .tflite or .onnx file")
    parser.add_argument("label", help="what switches the light on")
    parser.add_argument("--source", default="0", help="camera, stream or video file (default: 0)")
    parser.add_argument("--pin", type=int, default=17, help="GPIO number of the light (default: 17)")
    parser.add_argument("--threshold", type=float, default=0.5, help="least score, 0 to 1 (default: 0.5)")
    parser.add_argument("--dry-run", action="store_true", help="print instead of switching")
    asked = parser.parse_args()
    try:
        with contextlib.closing(open_light(asked.pin, dry_run=asked.dry_run)) as light:
            try:
                run(asked.model, asked.label, asked.source, light, asked.threshold)
            finally:
                light.off()
    except EdgeKitError as error:
        sys.exit(f"gpio_light: {error}")
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()

"""Body of ``edge-run camera``: frames in, one line an answer, until the end, the limit, Ctrl-C or SIGTERM."""

from __future__ import annotations

import contextlib
from itertools import islice

from edge_runtime.cli_support import note
from edge_runtime.commands.model_choice import ModelChoice
from edge_runtime.commands.output import Interrupts, output_stream, write_errors
from edge_runtime.cores import core_count
from edge_runtime.pipeline.camera import FrameTally, classify_frames
from edge_runtime.sinks.opening import open_sink
from edge_runtime.sources.opening import open_source


def run_camera(
    choice: ModelChoice, source_text: str, *, format_name: str, max_frames: int | None, top_k: int, threads: int
) -> None:
    """Classify frames and print each answer at once; a summary follows on standard error.

    Ctrl-C and SIGTERM are how a camera is stopped, so they end the run well.

    Raises:
        SourceError: The source cannot be opened or read, or has stopped giving frames.
        EdgeKitError: The model cannot be used.
    """
    tally = FrameTally()
    with Interrupts() as interrupts:
        try:
            source = open_source(source_text)
            with (
                contextlib.closing(source),
                choice.opener(threads or core_count())() as classifier,
                output_stream(None, overwrite=False, for_programs=format_name != "text") as stream,
            ):
                with write_errors():
                    sink = open_sink(format_name, stream, classifier.labels, top_k, frames=True)
                for answer in islice(classify_frames(source, classifier, top_k=top_k), max_frames):
                    with interrupts.held():
                        with write_errors():
                            sink.write(answer)
                        if answer.frame is not None:
                            tally.add(answer.frame)
        except KeyboardInterrupt:
            note(f"{tally}, stopped")
            return
    note(str(tally))

"""Open a found model in a runtime, with all that goes before: a trial for a stranger, the Edge TPU or its CPU twin."""

from __future__ import annotations

from typing import NamedTuple

from edge_runtime.engines.base import Engine
from edge_runtime.engines.opening import EngineName, import_runtime, open_engine, parse_engine
from edge_runtime.errors import EngineError
from edge_runtime.modelfile import ModelFile, find_model
from edge_runtime.trial.memory import needs_trial


class OpenedModel(NamedTuple):
    """An opened model.

    Attributes:
        model: The file that was opened; the CPU twin where the Edge TPU could not be used.
        engine: The runtime.
        note: What a person should be told about it, in one sentence, or None.
    """

    model: ModelFile
    engine: Engine
    note: str | None = None


def open_model(model: ModelFile, engine: EngineName | str = EngineName.AUTO, threads: int = 1) -> OpenedModel:
    """Open a model that `edge_runtime.modelfile.find_model` found.

    A file that no manifest vouches for is tried in a child process first. Where a bundle's Edge TPU model was taken by
    itself and the Edge TPU cannot be used, the same bundle's model for the processor takes over.

    Args:
        model: The file.
        engine: Which runtime, as `edge_runtime.engines.opening.parse_engine` takes it.
        threads: Threads inside one inference.

    Raises:
        EdgeKitError: It cannot be used here; see `edge_runtime.errors`.
    """
    try:
        return OpenedModel(model, _open(model, engine, threads))
    except EngineError as error:
        is_wanted = parse_engine(engine)[0] is EngineName.EDGETPU
        if model.cpu_twin is None or not model.is_default or is_wanted:
            raise
        reason = str(error).removeprefix(f"{model.path}: ")
    twin = find_model(model.path.parent, model.cpu_twin)
    note = f"{model.path}: {reason}; {twin.path.name} runs on the processor instead"
    return OpenedModel(twin, _open(twin, engine, threads), note)


def _open(model: ModelFile, engine: EngineName | str, threads: int) -> Engine:
    if not model.is_vouched_for:
        runtime = import_runtime(model.path, engine)
        if needs_trial(model.path, runtime):
            # Imported here because only the first run of a file from elsewhere needs it.
            from edge_runtime.trial.running import require_trial

            require_trial(model.path, EngineName(engine).value if isinstance(engine, EngineName) else engine, runtime)
    twin = f"run the same bundle with --variant {model.cpu_twin.value}" if model.cpu_twin else None
    return open_engine(model.path, engine, threads, structure=model.structure, twin=twin)

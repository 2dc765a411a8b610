"""Command ``edge-run service``: check a camera command and write a systemd unit for it."""

from __future__ import annotations

import os
import re
import stat
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import click
from click.core import ParameterSource

import edge_runtime
from edge_runtime.cli_support import note
from edge_runtime.commands.options import ModelChoice
from edge_runtime.contract import Variant
from edge_runtime.errors import UsageError
from edge_runtime.model.bundle import ModelFile
from edge_runtime.platform.atomic import write_atomic
from edge_runtime.service.needs import Needs, quote_word, read_needs
from edge_runtime.service.unit import Service, folders_of, hidden_paths, program_of, render
from edge_runtime.text import escape

_UNIT_FOLDER = Path("/etc/systemd/system")


@dataclass(frozen=True)
class ServiceJob:
    """Options of ``edge-run service`` itself.

    Attributes:
        name: Name of the unit; None takes ``edgekit-`` and the model's name.
        output: Path of the unit file, or None for standard output.
        overwrite: True to replace an existing unit file.
        memory_max: Memory limit in systemd's notation.
        environment: File of variables that systemd reads, or None.
    """

    name: str | None
    output: Path | None
    overwrite: bool
    memory_max: str
    environment: Path | None


def run_service(camera: click.Command, arguments: Sequence[str], job: ServiceJob) -> None:
    """Write the unit, and explain on standard error how to install it.

    Args:
        camera: Command ``edge-run camera``, which parses ``arguments``.
        arguments: MODEL|BUNDLE and options from the command line.
        job: Options of the service.

    Raises:
        click.UsageError: Arguments that ``edge-run camera`` does not take.
        UsageError: An option that a service cannot use.
        ModelError: The model cannot be used.
        OutputError: The unit file exists already, or cannot be written.
    """
    context = camera.make_context("edge-run camera", list(arguments))
    chosen = context.params
    model = ModelChoice(**{field.name: chosen[field.name] for field in fields(ModelChoice)}).find()
    name = _default_name(chosen["model"], model) if job.name is None else job.name
    environment = job.environment.absolute() if job.environment else None
    needs = read_needs(name, context, arguments, environment)
    _limit_output(needs, context)
    _pin_variant(needs, model, chosen)
    service = Service(
        name=name,
        program=program_of(Path(sys.executable)),
        program_folders=folders_of(sys.prefix, sys.base_prefix, Path(edge_runtime.__file__).parents[1]),
        needs=needs,
        edge_tpu=_may_use_edge_tpu(model, chosen),
        memory_max=job.memory_max,
        environment=environment,
    )
    text = render(service)
    if job.output is None:
        click.echo(text, nl=False)
    else:
        write_atomic(job.output, text, overwrite=job.overwrite)
    for line in (*_warnings(service), *_installation(service, job.output)):
        note(escape(line))


def _default_name(path: Path, model: ModelFile) -> str:
    stem = model.manifest.model_name if model.manifest else path.stem
    return "edgekit-" + (re.sub(r"[^A-Za-z0-9_-]+", "-", stem).strip("-")[:50] or "camera")


def _limit_output(needs: Needs, context: click.Context) -> None:
    """Send events only, or nothing if there is an output file, to the journal: a line per frame wears out a card."""
    given = {name for name in context.params if context.get_parameter_source(name) is ParameterSource.COMMANDLINE}
    if not given & {"every", "format"}:
        needs.prints = "output" not in given
        if needs.prints:
            needs.words.append("--every=event")


def _pin_variant(needs: Needs, model: ModelFile, chosen: dict[str, object]) -> None:
    """Name the variant that was measured fastest, because the service's own user does not share this user's cache."""
    from edge_runtime.model.bundle import fastest_here

    if chosen["variant"] or model.manifest is None or model.artifact is None:
        return
    if fastest_here(model.manifest) is model.artifact.variant:
        needs.words.append(f"--variant={model.artifact.variant.value}")


def _may_use_edge_tpu(model: ModelFile, chosen: dict[str, object]) -> bool:
    if str(chosen["engine"]).startswith(Variant.EDGETPU.value):
        return True
    if chosen["variant"]:
        return chosen["variant"] == Variant.EDGETPU.value
    if model.artifact is None or model.manifest is None:
        return Variant.EDGETPU.value in model.path.name
    return any(artifact.variant is Variant.EDGETPU for artifact in model.manifest.artifacts)


def _installation(service: Service, output: Path | None) -> Iterator[str]:
    unit = f"{service.name}.service"
    if output is None:
        yield f"to install it: the same command, piped into sudo tee {_UNIT_FOLDER / unit}, then"
    elif output.absolute().parent != _UNIT_FOLDER:
        yield f"to install it: sudo cp {quote_word(str(output))} {_UNIT_FOLDER / unit}, then"
    else:
        yield "to start it:"
    yield "  sudo systemctl daemon-reload"
    yield f"  sudo systemctl enable --now {unit}"
    yield f"  systemctl status {unit}; journalctl -u {unit} -f"


def _warnings(service: Service) -> Iterator[str]:
    """Warn about a file that shows its secrets, and about files that may keep the service from starting."""
    if service.environment and (shown := _mode(service.environment) & 0o077):
        yield f"warning: others can {'change' if shown & 0o022 else 'read'} {service.environment}; run chmod 600 on it"
    used = (*service.needs.read, *service.program_folders)
    bound = hidden_paths(used)
    for path in used:
        if closed := _closed(path, bound):
            yield (
                f"warning: the service's own user cannot read {closed}; run chmod -R o+rX {quote_word(str(closed))}, "
                "or move it to /opt"
            )
    for place in ("/tmp", "/var/tmp"):  # noqa: S108
        if any(path.is_relative_to(place) for path in used):
            yield f"warning: {place} is emptied when the machine starts; move the program, model and files elsewhere"


def _mode(path: Path) -> int:
    """Permission bits of a file; 0 where they cannot be read."""
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except OSError:
        return 0


def _closed(path: Path, bound: Sequence[Path]) -> Path | None:
    """Find the first file or folder on the way to ``path``, or directly in it, that other users may not read."""
    # A path that is bound into the service is reached through folders that systemd makes.
    start = next((place for place in bound if path.is_relative_to(place)), Path("/"))
    way = [place for place in (*reversed(path.parents), path) if place.is_relative_to(start)]
    try:
        inside = list(path.iterdir()) if path.is_dir() else []
        for place in (*way, *inside):
            mode = place.stat().st_mode
            wanted = stat.S_IXOTH if place.is_dir() else stat.S_IROTH
            if not mode & wanted:
                return place
    except OSError as error:
        raise UsageError(f"{path}: cannot be examined ({os.strerror(error.errno or 0)})") from error
    return None

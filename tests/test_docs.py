"""The commands of README and docs run as they are written."""

import functools
import os
import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest

from edge_runtime.workstation.datasets.samples import Sample, write_split_csv
from support.paths import CHECKOUT
from support.programs import run

PAGES = [CHECKOUT / "README.md", *sorted((CHECKOUT / "docs").glob("*.md"))]
PROGRAMS = ("edge-train", "edge-convert", "edge-run", "edge-bench")


def blocks(page, kind):
    return re.findall(rf"^```{kind}\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def commands(page):
    """Lines of the ``sh`` blocks, without comments."""
    lines = [line.partition("#")[0].strip() for block in blocks(page, "sh") for line in block.splitlines()]
    return [line for line in lines if line]


ALL_COMMANDS = [(page.name, command) for page in PAGES for command in commands(page)]
PROGRAM_COMMANDS = [item for item in ALL_COMMANDS if item[1].startswith(PROGRAMS)]
MAKE_COMMANDS = [item for item in ALL_COMMANDS if item[1].startswith("make ")]


def test_every_command_is_of_a_kind_that_is_tested():
    others = [command for _, command in ALL_COMMANDS if (_, command) not in PROGRAM_COMMANDS + MAKE_COMMANDS]
    assert {command.split()[0] for command in others} <= {"pip"}
    assert len(PROGRAM_COMMANDS) > 8
    assert len(MAKE_COMMANDS) > 5
    assert len(CLUSTER_COMMANDS) == 3


@pytest.mark.parametrize(("page", "command"), MAKE_COMMANDS)
def test_make_knows_the_target_and_its_variables(page, command):
    arguments = shlex.split(command)
    done = run("make", "--dry-run", *arguments[1:], cwd=CHECKOUT)
    assert done.returncode == 0, f"{page}: {command}: {done.stderr}"
    makefile = (CHECKOUT / "Makefile").read_text()
    for argument in arguments[1:]:
        if "=" in argument:
            assert f"$({argument.partition('=')[0]})" in makefile


SHELL_BLOCKS = [(page.name, block) for page in PAGES for block in blocks(page, "shell")]
CLUSTER_COMMANDS = [
    (page, command) for page, block in SHELL_BLOCKS for command in re.findall(r"edge-train run [^'\n]+", block)
]
OTHER_COMMANDS = [
    (page, line)
    for page, block in SHELL_BLOCKS
    for line in block.splitlines()
    if line.startswith(("edge-convert ", "edge-run ", "edge-bench "))
]


@pytest.mark.parametrize(("page", "command"), CLUSTER_COMMANDS)
def test_a_command_for_several_hosts_is_understood(page, command, monkeypatch):
    """Blocks marked ``shell`` need a cluster; here their options are only read."""
    import train.cli
    from train.hardware import parse_hardware

    for name, value in {"SLURM_PROCID": "1", "SLURM_NTASKS": "2", "CHIEF": "node1"}.items():
        monkeypatch.setenv(name, value)
    arguments = shlex.split(os.path.expandvars(command))[2:]
    options = train.cli.run.make_context("run", arguments).params
    chosen = (options[name] for name in ("device", "precision", "distributed"))
    hardware = parse_hardware(*chosen, deterministic=options["deterministic"])
    assert hardware.cluster is not None, f"{page}: {command}"
    assert hardware.cluster.address == "node1:7777"


@pytest.mark.parametrize(("page", "command"), OTHER_COMMANDS)
def test_a_command_for_files_that_are_not_here_is_understood(page, command):
    """Such as a model of the reader's, or a compiler; the options are read all the same."""
    import benchmarks.cli
    import convert.cli
    import edge_runtime.cli

    program, name, *arguments = shlex.split(command, comments=True)
    groups = {"edge-convert": convert.cli.cli, "edge-run": edge_runtime.cli.cli, "edge-bench": benchmarks.cli.cli}
    assert groups[program].commands[name].make_context(name, arguments).params, f"{page}: {command}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_that_are_there(page):
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8"))
    assert [target for target in targets if "://" not in target and not (page.parent / target).exists()] == []


def test_every_page_is_linked_from_the_first():
    first = PAGES[0].read_text(encoding="utf-8")
    assert [page.name for page in PAGES[1:] if f"(docs/{page.name})" not in first] == []


@pytest.fixture(scope="module")
def workplace(tmp_path_factory, small_run, small_bundle, colored_images, mobilenetv2_weights):
    """What the pages speak of: photos, a run, a bundle, and weights of a MobileNetV2."""
    folder = tmp_path_factory.mktemp("docs")
    shutil.copytree(colored_images, folder / "photos")
    shutil.make_archive(str(folder / "photos"), "zip", colored_images)
    samples = [Sample(path, path.parent.name) for path in sorted(colored_images.glob("*/*.png"))]
    write_split_csv(folder / "photos.csv", samples)
    shutil.copytree(colored_images / "red", folder / "new-photos")
    shutil.copytree(small_run, folder / "runs/pets")
    shutil.copytree(small_bundle, folder / "bundles/pets")
    shutil.copy(mobilenetv2_weights, folder / "mobilenet_v2.h5")
    return folder


@pytest.fixture(scope="module")
def workplace_of(workplace, tmp_path_factory):
    """The workplace of a page: its commands run in their order, and see nothing of what another page made."""

    @functools.cache
    def copied(page):
        return shutil.copytree(workplace, tmp_path_factory.mktemp("page") / page)

    return copied


@pytest.mark.slow
@pytest.mark.parametrize(("page", "command"), [item for item in PROGRAM_COMMANDS if "--source 0" not in item[1]])
def test_the_command_runs(page, command, workplace_of):
    arguments = shlex.split(command)
    if "--out" in arguments:
        # The pages give the names of what the workplace holds already.
        arguments.append("--overwrite")
    if "mobilenetv2" in arguments and "--image-size" not in arguments:
        # A third of the pixels to train on and to convert for; recipes at their own size are trained in test_train_cli.
        arguments += ["--image-size", "96"]
    if arguments[:2] == ["edge-convert", "run"]:
        arguments += ["--max-drop", "100"]  # a handful of validation images say nothing about a loss of 1 point
    if arguments[:2] == ["edge-bench", "run"] and "--quick" not in arguments:
        arguments.append("--quick")  # the whole takes minutes; test_benchmarks_run takes every scenario
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    done = run(*arguments, cwd=workplace_of(page), env=environment)
    assert done.returncode == 0, f"{page}: {command}\n{done.stderr}"

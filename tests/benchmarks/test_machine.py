"""The machine record: read from this machine, and from copies of what boards show."""

import importlib.metadata
import subprocess

import pytest

from benchmarks.machine import MachineRecord, Revision, describe_machine, revision_of
from edge_runtime.strict import from_mapping, to_mapping
from support.files import put

X86_FLAGS = "processor\t: 0\nmodel name\t: Some CPU\nflags\t\t: fpu sse2 avx avx2 fma avx512_vnni{}\n"
PI5 = "processor\t: 0\nFeatures\t: fp asimd evtstrm crc32 asimdhp asimddp\nModel\t: Raspberry Pi 5 Model B\n"


def git(folder, *arguments):
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.invalid", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", *identity, "-C", folder, *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def make_checkout(folder):
    put(folder, "code.py", f"{folder.name}\n")
    for command in ("init --quiet", "add code.py", "commit --quiet --message first"):
        git(folder, *command.split())
    return git(folder, "rev-parse", "HEAD")


def test_record_describes_this_machine_and_survives_strict_parsing():
    record = describe_machine()
    assert record.cpu_model
    assert 1 <= record.cores_usable <= record.cores_total
    assert record.memory_bytes is None or record.memory_bytes > 1 << 24
    assert record.packages["numpy"] == importlib.metadata.version("numpy")
    assert from_mapping(MachineRecord, to_mapping(record), "machine") == record


def test_record_reads_a_board_with_its_governor(tmp_path):
    put(tmp_path, "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "ondemand\n")
    put(tmp_path, "proc/device-tree/model", "Raspberry Pi 5 Model B Rev 1.0\0")
    put(tmp_path, "proc/cpuinfo", PI5)
    put(tmp_path, "proc/meminfo", "MemTotal:        3884368 kB\nMemFree: 1 kB\n")
    put(tmp_path, "etc/os-release", 'NAME="Debian"\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n')
    record = describe_machine(tmp_path)
    assert (record.cpu_model, record.governor) == ("Raspberry Pi 5 Model B Rev 1.0", "ondemand")
    assert (record.memory_bytes, record.os_name) == (3884368 * 1024, "Debian GNU/Linux 12 (bookworm)")
    assert (record.simd, record.virtualised) == (("asimd", "asimdhp", "asimddp"), False)


def test_record_says_none_where_nothing_can_be_read(tmp_path):
    record = describe_machine(tmp_path)
    assert (record.governor, record.memory_bytes, record.os_name, record.virtualised) == (None, None, None, None)
    assert (record.simd, record.cpu_model) == ((), record.architecture)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"proc/cpuinfo": X86_FLAGS.format(" hypervisor")}, True),
        ({"proc/cpuinfo": X86_FLAGS.format("")}, False),
        ({"proc/cpuinfo": PI5, "sys/class/dmi/id/sys_vendor": "QEMU\n"}, True),
        ({"proc/cpuinfo": PI5, "sys/class/dmi/id/product_name": "Altra server\n"}, False),
        ({"proc/cpuinfo": PI5, "sys/hypervisor/type": "xen\n"}, True),
        ({"proc/cpuinfo": PI5}, None),
    ],
)
def test_virtual_machines_are_told_apart(tmp_path, files, expected):
    for name, text in files.items():
        put(tmp_path, name, text)
    assert describe_machine(tmp_path).virtualised is expected


@pytest.mark.parametrize("text", ["PRETTY_NAME='unfinished\n", "PRETTY_NAME=\n", "\x00\xff", "NAME=x\n"])
def test_a_damaged_os_release_is_no_error(tmp_path, text):
    put(tmp_path, "etc/os-release", text)
    assert describe_machine(tmp_path).os_name is None


def test_only_variables_of_the_list_are_recorded(monkeypatch):
    for name, value in (("OMP_NUM_THREADS", "3"), ("XLA_FLAGS", "--x" * 1000), ("SOME_API_KEY", "secret")):
        monkeypatch.setenv(name, value)
    environment = describe_machine().environment
    assert environment["OMP_NUM_THREADS"] == "3"
    assert len(environment["XLA_FLAGS"]) == 200
    assert "SOME_API_KEY" not in environment


def test_revision_tells_the_commit_and_whether_files_were_altered(tmp_path, monkeypatch):
    commit = make_checkout(tmp_path / "checkout")
    make_checkout(tmp_path / "other")
    # As it is in a hook of another repository.
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other" / ".git"))
    assert revision_of(tmp_path / "checkout") == Revision(commit, False)
    put(tmp_path, "checkout/new.txt", "not tracked, so not what runs")
    assert revision_of(tmp_path / "checkout") == Revision(commit, False)
    put(tmp_path, "checkout/code.py", "2\n")
    assert revision_of(tmp_path / "checkout") == Revision(commit, True)


def test_a_repository_around_an_installed_package_is_not_its_checkout(tmp_path):
    make_checkout(tmp_path / "users")
    site_packages = tmp_path / "users/.venv/lib/site-packages"
    site_packages.mkdir(parents=True)
    assert revision_of(site_packages) is None


def test_no_git_and_a_broken_checkout_are_no_error(tmp_path, monkeypatch):
    put(tmp_path, "broken/.git", "gitdir: nowhere\n")
    assert revision_of(tmp_path / "broken") is None
    make_checkout(tmp_path / "good")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert revision_of(tmp_path / "good") is None

"""The machine record."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

from benchmarks.machine import MachineRecord, describe_machine
from edge_runtime.strict import from_mapping, to_mapping


def test_record_describes_this_machine_and_survives_strict_parsing() -> None:
    record = describe_machine()
    assert record.cpu_model
    assert 1 <= record.cores_usable <= record.cores_total
    assert record.memory_bytes is None or record.memory_bytes > 1 << 24
    assert record.packages["numpy"] == importlib.metadata.version("numpy")
    assert from_mapping(MachineRecord, to_mapping(record), "machine") == record


def test_record_reads_a_board_with_its_governor(tmp_path: Path) -> None:
    governor = tmp_path / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"
    governor.parent.mkdir(parents=True)
    governor.write_text("ondemand\n")
    (tmp_path / "proc/device-tree").mkdir(parents=True)
    (tmp_path / "proc/device-tree/model").write_bytes(b"Raspberry Pi 4 Model B Rev 1.4\0")
    (tmp_path / "proc/cpuinfo").write_text("processor\t: 0\nHardware\t: BCM2835\n")
    (tmp_path / "proc/meminfo").write_text("MemTotal:        3884368 kB\nMemFree: 1 kB\n")
    record = describe_machine(tmp_path)
    assert record.cpu_model == "Raspberry Pi 4 Model B Rev 1.4"
    assert record.governor == "ondemand"
    assert record.memory_bytes == 3884368 * 1024


def test_record_says_none_where_nothing_can_be_read(tmp_path: Path) -> None:
    record = describe_machine(tmp_path)
    assert (record.governor, record.memory_bytes) == (None, None)
    assert record.cpu_model == record.architecture

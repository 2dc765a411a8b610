"""Power meters: readers from copies of what machines show, programs, and the energy above idle."""

import contextlib
import itertools
import os
import shlex
import sys
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.resources import power, power_meters
from benchmarks.resources.power import Counter, CounterReader, Meter, SampledReader, integrate_mj
from edge_runtime.errors import UsageError
from support.files import put
from support.waiting import wait_until

PMIC_ANSWER = """
   3V7_WL_SW_A current(0)=0.10000000A
     VDD_CORE_A current(7)=2.00000000A
   3V7_WL_SW_V volt(8)=3.70000000V
     VDD_CORE_V volt(15)=0.75000000V
       EXT5V_V volt(24)=5.10000000V
        BATT_V volt(25)=0.00000000V
"""


@pytest.fixture(autouse=True)
def _short_idle(monkeypatch):
    monkeypatch.setattr(power, "IDLE_S", 0.05)


def put_all(folder, **files):
    for name, text in files.items():
        put(folder, name, f"{text}\n")


def zone(root, name, kind, energy_uj):
    folder = root / "sys/class/powercap" / name
    put_all(folder, name=kind, max_energy_range_uj=1_000_000, energy_uj=energy_uj)
    return folder / "energy_uj"


def ina(root, number, name, **files):
    put_all(root / f"sys/class/hwmon/hwmon{number}", name=name, **files)


def read_w(found):
    assert isinstance(found, SampledReader), found
    return found.read_w()


class ScriptedReader:
    """Gives the energies that it was told, in millijoules; an OSError is raised."""

    name, covers = "scripted", "what a test says"

    def __init__(self, *energies):
        self._energies = iter(energies)
        self.closed = False

    def begin(self):
        pass

    def end(self):
        energy = next(self._energies)
        if isinstance(energy, OSError):
            raise energy
        return energy

    def close(self):
        self.closed = True


def meter_of(reader):
    return Meter(reader, sleep=lambda _: None, clock_s=itertools.count(0.0, 1.0).__next__)


def test_meter_subtracts_idle():
    reader = ScriptedReader(2000.0, 5000.0)
    with meter_of(reader) as meter:
        assert meter.idle_w == 2.0  # 2000 mJ in one tick of 1 s
        with meter.span() as span:
            assert span.energy_mj is None
        assert (span.duration_s, span.energy_mj) == (1.0, 3000.0)
    assert reader.closed


def test_a_reader_that_fails_does_not_disturb_the_block():
    meter = meter_of(ScriptedReader(2000.0, OSError("gone"), 4000.0))
    with meter.span() as failed:
        pass
    with meter.span() as good:
        pass
    assert (failed.energy_mj, good.energy_mj) == (None, 2000.0)


def test_an_error_in_the_block_comes_through_and_the_next_span_works():
    meter = meter_of(ScriptedReader(0.0, 1.0, 2.0))
    with pytest.raises(ValueError, match="child died"), meter.span():
        raise ValueError("child died")
    with meter.span() as span:
        pass
    assert span.energy_mj == 2.0


@given(st.floats(0, 100), st.lists(st.floats(0.001, 10), min_size=1, max_size=30))
def test_constant_power_integrates_exactly(watts, steps_s):
    times_s = list(itertools.accumulate(steps_s, initial=5.0))
    expected_mj = watts * (times_s[-1] - times_s[0]) * 1e3
    assert integrate_mj([(time_s, watts) for time_s in times_s]) == pytest.approx(expected_mj, rel=1e-9, abs=1e-9)


def test_sampled_power_is_summed_while_a_span_lasts():
    values = itertools.chain([0.0], itertools.repeat(10.0))
    reader = SampledReader("test", "", lambda: next(values), period_s=0.001)
    started_s = time.perf_counter()
    reader.begin()
    wait_until(lambda: len(reader.samples) >= 20, "20 samples", step_s=0.001)
    energy_mj = reader.end()
    spent_mj = 10.0 * (time.perf_counter() - started_s) * 1e3
    assert 0 < energy_mj <= spent_mj
    assert "power" not in {thread.name for thread in threading.enumerate()}


def test_sampled_power_that_fails_is_told_at_the_end():
    def fail():
        if next(calls) > 0:
            raise OSError("unplugged")
        return 1.0

    calls = itertools.count()
    reader = SampledReader("test", "", fail, period_s=0.001)
    reader.begin()
    wait_until(lambda: reader.repeater.failure, "the failure")
    with pytest.raises(OSError, match="unplugged"):
        reader.end()


def test_counters_add_up_and_come_round(tmp_path):
    first, second = put(tmp_path, "a", "999000\n"), put(tmp_path, "b", "5000\n")
    reader = CounterReader("test", "", [Counter(first, 1_000_000), Counter(second, 1_000_000)])
    reader.begin()
    first.write_text("1000\n")
    second.write_text("9000\n")
    assert reader.end() == pytest.approx(2.0 + 4.0)  # millijoules


def test_a_counter_without_a_known_range_may_not_go_back(tmp_path):
    file = put(tmp_path, "a", "7\n")
    reader = CounterReader("test", "", [Counter(file, None)])
    reader.begin()
    file.write_text("3\n")
    with pytest.raises(OSError, match="went back"):
        reader.end()
    file.write_text("rubbish\n")
    with pytest.raises(OSError, match="expected a number"):
        reader.begin()


def test_rapl_takes_packages_and_memory_and_no_part_twice(tmp_path):
    zone(tmp_path, "intel-rapl:0", "package-0", 10)
    zone(tmp_path, "intel-rapl:0:0", "core", 9)
    zone(tmp_path, "intel-rapl:0:1", "dram", 3)
    zone(tmp_path, "intel-rapl:1", "psys", 99)
    zone(tmp_path, "intel-rapl-mmio:0", "package-0", 10)
    found = power_meters.find_rapl(tmp_path)
    assert isinstance(found, CounterReader)
    counters = [(counter.path.parent.name, counter.range_uj) for counter in found.counters]
    assert counters == [("intel-rapl:0", 1_000_000), ("intel-rapl:0:1", 1_000_000)]
    assert "memory" in found.covers


def test_rapl_that_only_root_may_read_says_so(tmp_path, monkeypatch):
    zone(tmp_path, "intel-rapl:0", "package-0", 10).chmod(0)
    if os.geteuid() == 0:  # whom no mode stops

        def refuse(path):
            raise PermissionError(13, "Permission denied", str(path))

        monkeypatch.setattr("benchmarks.resources.power_meters.read_number", refuse)
    assert "root only" in str(power_meters.find_rapl(tmp_path))
    assert "root only" in power_meters.explain_no_meter(None, tmp_path)
    with pytest.raises(UsageError, match="root only"):
        power_meters.open_meter("rapl", tmp_path)


def test_hwmon_reads_power_or_volts_and_amperes(tmp_path):
    ina(tmp_path, 0, "nvme", power1_input="9000000")  # no meter of the board
    assert isinstance(power_meters.find_hwmon(tmp_path), str)
    ina(tmp_path, 1, "ina219", power1_input="3500000", in1_input="5000", curr1_input="700")
    assert read_w(power_meters.find_hwmon(tmp_path)) == 3.5


def test_hwmon_takes_the_boards_input_among_channels_or_asks(tmp_path):
    channels = {"in1_label": "VDD_CPU", "in1_input": "5000", "curr1_input": "100", "in1_enable": "1"}
    channels |= {"in2_label": "VDD_SOC", "in2_input": "5000", "curr2_input": "200", "in2_enable": "1"}
    channels |= {"in3_label": "unused", "in3_input": "0", "curr3_input": "0", "in3_enable": "0", "curr4_input": "300"}
    ina(tmp_path, 1, "ina3221", **channels, in4_input="12")
    assert "VDD_CPU, VDD_SOC" in str(power_meters.find_hwmon(tmp_path))
    assert read_w(power_meters.find_hwmon(tmp_path, "VDD_SOC")) == pytest.approx(1.0)
    with pytest.raises(UsageError, match="VDD_CPU, VDD_SOC"):
        power_meters.open_meter("hwmon:VDD_GPU", tmp_path)
    ina(tmp_path, 1, "ina3221", in1_label="VDD_IN")
    assert read_w(power_meters.find_hwmon(tmp_path)) == pytest.approx(0.5)


def test_pmic_sums_the_rails_that_tell_volts_and_amperes():
    assert power_meters.pmic_w(PMIC_ANSWER) == pytest.approx(0.1 * 3.7 + 2.0 * 0.75)
    with pytest.raises(OSError, match="Raspberry Pi 5"):
        power_meters.pmic_w('error=1 error_msg="Command not registered"')


@given(st.text())
def test_any_other_answer_of_the_pmic_is_an_error_or_a_number(text):
    with contextlib.suppress(OSError):
        assert power_meters.pmic_w(text) >= 0


def test_pmic_is_asked_through_vcgencmd(tmp_path):
    assert "no vcgencmd" in str(power_meters.find_pmic(tmp_path))
    program = put(tmp_path, "usr/bin/vcgencmd", f'#!/bin/sh\n[ "$1" = pmic_read_adc ] && cat <<EOF{PMIC_ANSWER}EOF\n')
    program.chmod(0o755)
    assert read_w(power_meters.find_pmic(tmp_path)) == pytest.approx(1.87)
    program.write_text("#!/bin/sh\necho 'error=1'\n")
    assert "Raspberry Pi 5" in str(power_meters.find_pmic(tmp_path))


def test_battery_counts_while_it_is_discharging_and_a_mouse_never(tmp_path):
    supplies = tmp_path / "sys/class/power_supply"
    put_all(supplies / "hid-mouse", type="Battery", scope="Device", status="Discharging")
    put_all(supplies / "AC", type="Mains")
    assert power_meters.find_battery(tmp_path) == "no battery"
    put_all(supplies / "BAT0", type="Battery", status="Charging")
    assert "pull the plug" in str(power_meters.find_battery(tmp_path))
    put_all(supplies / "BAT0", status="Discharging")
    assert "does not report" in str(power_meters.find_battery(tmp_path))
    put_all(supplies / "BAT0", voltage_now="12000000", current_now="-500000")
    assert read_w(power_meters.find_battery(tmp_path)) == pytest.approx(6.0)
    put_all(supplies / "BAT0", power_now="7000000")
    assert read_w(power_meters.find_battery(tmp_path)) == pytest.approx(7.0)


def test_whichever_is_found_is_taken_and_none_is_explained(tmp_path):
    assert power_meters.open_meter(None, tmp_path) is None
    reasons = power_meters.explain_no_meter(None, tmp_path)
    assert all(name in reasons for name in ("hwmon", "rapl", "pmic", "battery"))
    ina(tmp_path, 1, "ina226", power1_input="4000000")
    zone(tmp_path, "intel-rapl:0", "package-0", 10)
    assert power_meters.open_meter("none", tmp_path) is None
    assert "--power none" in power_meters.explain_no_meter("none", tmp_path)
    with power_meters.open_meter(None, tmp_path) or pytest.fail("no meter") as meter:
        assert (meter.name, meter.idle_w) == ("hwmon:ina226-1", pytest.approx(4.0, rel=0.2))


def test_an_unknown_reader_lists_the_known(tmp_path):
    with pytest.raises(UsageError, match=r"--power joules: expected hwmon, rapl, pmic, battery, .*command:.* or none"):
        power_meters.open_meter("joules", tmp_path)


def test_a_persons_own_program_is_read(tmp_path):
    script = put(
        tmp_path,
        "my meter.py",
        f"import os, pathlib, time\npathlib.Path({str(tmp_path / 'pid')!r}).write_text(str(os.getpid()))\n"
        "print('Meter 1.0', flush=True)\nprint('nan', flush=True)\n"
        "while True:\n    print(2.5, flush=True)\n    time.sleep(0.01)\n",
    )
    meter = power_meters.open_meter(f"command:{shlex.join([sys.executable, '-u', str(script)])}")
    assert meter is not None
    with meter:
        assert meter.name.startswith("command:python")
        assert meter.idle_w == pytest.approx(2.5, rel=0.2)
        with meter.span() as span:
            time.sleep(0.05)
        assert span.energy_mj is not None
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


@pytest.mark.parametrize("command", ["", "no-such-program-anywhere", "'unfinished", "true", "echo no number"])
def test_a_program_that_is_no_meter_is_a_usage_error(command):
    with pytest.raises(UsageError, match="watts, one a line"):
        power_meters.open_meter(f"command:{command}")


def test_a_program_that_falls_silent_gives_no_energy(monkeypatch):
    meter = power_meters.open_meter("command:echo 3.5")
    assert meter is not None
    monkeypatch.setattr(power, "STALE_S", -1.0)
    with meter, meter.span() as span:
        pass
    assert span.energy_mj is None

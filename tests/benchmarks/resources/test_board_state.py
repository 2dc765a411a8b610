"""The board before, during and after, what makes a run worthless, and what packages take on a disk."""

import os

import pytest

from benchmarks.records import BoardState, BoardWatch
from benchmarks.resources.board_state import BoardWatcher, frequency_mhz, invalid_reasons, read_state
from benchmarks.resources.sizes import install_bytes, packages_of
from support.files import put
from support.waiting import wait_until

CPUFREQ = f"sys/devices/system/cpu/cpu{min(os.sched_getaffinity(0))}/cpufreq"


def put_board(root, *, celsius=50, mhz=1800, by="ondemand", flags="0"):
    put(root, "sys/class/thermal/thermal_zone0/type", "cpu-thermal\n")
    put(root, "sys/class/thermal/thermal_zone0/temp", f"{celsius * 1000:.0f}\n")
    put(root, f"{CPUFREQ}/scaling_cur_freq", f"{mhz * 1000}\n")
    put(root, "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", f"{by}\n")
    put(root, "sys/devices/system/cpu/cpu0/cpufreq/scaling_driver", "cpufreq-dt\n")
    put(root, "sys/devices/platform/soc/soc:firmware/get_throttled", f"{flags}\n")


def watch_of(before=(), after=()):
    states = [BoardState(50.0, 1800.0, "ondemand", flags, 0.1) for flags in (before, after)]
    return BoardWatch(states[0], states[1], 55.0, None, None)


def test_state_of_a_board(tmp_path):
    put_board(tmp_path, celsius=61.5, flags="50005")
    state = read_state(tmp_path)
    assert (state.temperature_c, state.frequency_mhz, state.governor) == (61.5, 1800.0, "ondemand")
    assert state.throttling == ("under-voltage now", "throttled now")


def test_state_of_a_machine_that_tells_nothing(tmp_path):
    state = read_state(tmp_path)
    assert (state.temperature_c, state.frequency_mhz, state.governor, state.throttling) == (None, None, None, ())
    assert state.load_average_1min >= 0


def test_frequency_comes_from_cpuinfo_where_there_is_no_cpufreq(tmp_path):
    cores = sorted(os.sched_getaffinity(0))
    blocks = [f"processor\t: {core}\ncpu MHz\t\t: {2000 + 100 * index}.5\n" for index, core in enumerate(cores)]
    stranger = f"processor\t: {max(cores) + 1}\ncpu MHz\t\t: 9.0\n"
    put(tmp_path, "proc/cpuinfo", "\n".join([*blocks, stranger]))
    assert frequency_mhz(tmp_path) == pytest.approx(2000.5 + 100 * (len(cores) - 1) / 2, abs=0.06)


@pytest.mark.parametrize("text", ["", "rubbish\n", "processor: x\ncpu MHz: y\n", "cpu MHz : 5\n"])
def test_a_damaged_cpuinfo_is_no_error(tmp_path, text):
    put(tmp_path, "proc/cpuinfo", text)
    assert frequency_mhz(tmp_path) is None


def test_the_kernels_own_thermal_cap_counts_and_a_fan_does_not(tmp_path):
    put(tmp_path, "sys/class/thermal/cooling_device0/type", "pwm-fan\n")
    put(tmp_path, "sys/class/thermal/cooling_device0/cur_state", "3\n")
    put(tmp_path, "sys/class/thermal/cooling_device1/type", "thermal-cpufreq-0\n")
    state_file = put(tmp_path, "sys/class/thermal/cooling_device1/cur_state", "0\n")
    assert read_state(tmp_path).throttling == ()
    state_file.write_text("2\n")
    assert read_state(tmp_path).throttling == ("thermal cap now",)


def test_watcher_sees_what_comes_and_goes_while_measuring(tmp_path):
    put_board(tmp_path, celsius=50)
    with BoardWatcher(tmp_path, period_s=0.01) as watcher:
        put_board(tmp_path, celsius=82, flags="4")
        wait_until(lambda: watcher.hottest_c == 82 and "throttled" in watcher.seen)
        put_board(tmp_path, celsius=60, flags="0")
    watch = watcher.watch
    assert (watch.before.temperature_c, watch.hottest_c, watch.after.temperature_c) == (50, 82, 60)
    assert watch.after.throttling == ("throttled while measuring",)
    assert ["'throttled' while measuring" in reason for reason in invalid_reasons(watch)] == [True]


def test_watcher_starts_no_process_while_measuring(tmp_path):
    log = tmp_path / "asked"
    program = put(tmp_path, "usr/bin/vcgencmd", f"#!/bin/sh\necho asked >> {log}\necho throttled=0x0\n")
    program.chmod(0o755)
    with BoardWatcher(tmp_path, period_s=0.01) as watcher:
        put(tmp_path, "sys/class/thermal/thermal_zone0/type", "cpu-thermal\n")
        put(tmp_path, "sys/class/thermal/thermal_zone0/temp", "70000\n")
        wait_until(lambda: watcher.hottest_c == 70)
    assert log.read_text().split() == ["asked", "asked"]  # before and after
    assert invalid_reasons(watcher.watch) == ()


def test_processor_that_counts_its_throttling(tmp_path):
    counter = put(tmp_path, "sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count", "7\n")
    with BoardWatcher(tmp_path) as quiet:
        pass
    assert invalid_reasons(quiet.watch) == ()
    with BoardWatcher(tmp_path) as hot:
        counter.write_text("9\n")
    assert "'throttled' while measuring" in invalid_reasons(hot.watch)[0]


@pytest.mark.parametrize(
    ("governor", "driver", "expected"),
    [
        ("performance", "cpufreq-dt", ("frequency fell while measuring",)),
        ("ondemand", "cpufreq-dt", ()),  # an idle board lowers it
        ("performance", "intel_pstate", ()),  # turbo comes and goes
    ],
)
def test_a_fixed_frequency_that_falls(tmp_path, governor, driver, expected):
    put_board(tmp_path, mhz=1800, by=governor)
    put(tmp_path, "sys/devices/system/cpu/cpu0/cpufreq/scaling_driver", driver)
    with BoardWatcher(tmp_path) as watcher:
        put(tmp_path, f"{CPUFREQ}/scaling_cur_freq", "1500000")
    assert watcher.watch.after.throttling == expected
    assert bool(invalid_reasons(watcher.watch)) is bool(expected)


def test_watch_is_not_there_before_the_end(tmp_path):
    with BoardWatcher(tmp_path) as watcher, pytest.raises(RuntimeError, match="still being watched"):
        _ = watcher.watch


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ((), (), None),
        (("under-voltage since boot",), ("under-voltage since boot",), None),  # days old, perhaps
        (("under-voltage now",), ("under-voltage since boot",), "'under-voltage' before the first measurement"),
        ((), ("frequency capped since boot",), "'frequency capped' while measuring"),
        ((), ("soft temperature limit now",), "'soft temperature limit' after the last measurement"),
        (("throttled now",), ("throttled now",), "before the first measurement and after the last measurement"),
    ],
)
def test_reasons_that_make_a_run_worthless(before, after, words):
    reasons = invalid_reasons(watch_of(before, after))
    assert len(reasons) == (words is not None)
    assert words is None or words in reasons[0]


def test_each_reason_has_its_own_remedy():
    voltage, heat = invalid_reasons(watch_of(after=("under-voltage now", "throttled now")))
    assert ("power supply" in voltage, "cool the board" in heat) == (True, True)


def test_packages_of_every_runtime_bring_what_prepares_images():
    for runtime in ("litert 2.3.0", "tflite-runtime", "onnxruntime 1.31.1", "keras 3.15 on tensorflow 2.21"):
        packages = packages_of(runtime)
        assert {"numpy", "click", "edgekit"} < set(packages)
        assert any(name.startswith("opencv") for name in packages)
    assert packages_of("keras 3.15")[:2] == ("keras", "tensorflow")
    assert packages_of("") == packages_of("armnn 1") == ()


def test_install_size_counts_what_is_required_once():
    numpy, opencv = install_bytes(("numpy",)), install_bytes(("opencv-python-headless",))
    assert numpy is not None
    assert numpy > 10_000_000
    assert opencv == install_bytes(("numpy", "opencv-python-headless"))  # it requires numpy
    litert = install_bytes(packages_of("litert"))
    assert litert is not None
    assert opencv is not None
    assert litert > opencv + 10_000_000


def test_install_size_is_unknown_for_what_is_not_installed():
    assert install_bytes(()) is install_bytes(("numpy", "no-such-package-anywhere")) is None


def test_install_size_of_edgekit_is_its_device_side():
    alone = install_bytes(("edgekit",))
    assert alone is not None
    assert 100_000 < alone < 5_000_000

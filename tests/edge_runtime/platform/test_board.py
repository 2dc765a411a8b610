"""The board's own figures, read from copies of what boards show."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.platform import board
from support.files import put

PI_FIRMWARE = "sys/devices/platform/soc/soc:firmware/get_throttled"
PI5_FIRMWARE = "sys/devices/platform/soc@107c000000/soc@107c000000:firmware/get_throttled"


def zone(root, number, kind, temp):
    put(root, f"sys/class/thermal/thermal_zone{number}/type", f"{kind}\n")
    put(root, f"sys/class/thermal/thermal_zone{number}/temp", f"{temp}\n")


def test_the_processor_is_preferred_to_hotter_sensors(tmp_path):
    zone(tmp_path, 0, "gpu-thermal", "80000")
    zone(tmp_path, 1, "cpu-thermal", "48312")
    zone(tmp_path, 2, "soc-thermal", "51500")
    assert board.temperature_c(tmp_path) == 51.5


def test_any_sensor_is_better_than_none_and_a_broken_one_counts_for_nothing(tmp_path):
    assert board.temperature_c(tmp_path) is None
    zone(tmp_path, 0, "cpu-thermal", "-273150")
    zone(tmp_path, 1, "cpu-thermal", "")
    zone(tmp_path, 2, "iwlwifi", "not a number")
    assert board.temperature_c(tmp_path) is None
    zone(tmp_path, 3, "acpitz", "27800")
    assert board.temperature_c(tmp_path) == 27.8


@pytest.mark.parametrize("name", [PI_FIRMWARE, PI5_FIRMWARE])
@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("0", ()),
        ("50005", ("under-voltage now", "throttled now")),
        ("0x50000", ("under-voltage since boot", "throttled since boot")),
        ("a0008", ("soft temperature limit now", "frequency capped since boot")),
        ("rubbish", ()),
        ("", ()),
    ],
)
def test_throttling_is_told_in_words(tmp_path, name, text, names):
    put(tmp_path, name, text + "\n")
    assert board.throttled(tmp_path) == names


def test_vcgencmd_is_asked_where_the_kernel_does_not_say(tmp_path):
    program = put(tmp_path, "usr/bin/vcgencmd", '#!/bin/sh\n[ "$1" = get_throttled ] && echo throttled=0x20002\n')
    program.chmod(0o755)
    assert board.throttled(tmp_path) == ("frequency capped now",)
    program.write_text("#!/bin/sh\necho throttled=0x1\nexit 1\n")
    assert board.throttled(tmp_path) == ()
    program.chmod(0o644)
    assert board.throttled(tmp_path) == ()


def test_a_vcgencmd_that_hangs_is_given_up(tmp_path):
    put(tmp_path, "usr/bin/vcgencmd", "#!/bin/sh\nexec sleep 30\n").chmod(0o755)
    assert board.ask_vcgencmd("get_throttled", tmp_path, timeout_s=0.05) is None


@given(word=st.integers(0, 0xFFFFF))
def test_every_word_has_names_without_repetition(tmp_path, word):
    put(tmp_path, PI_FIRMWARE, f"{word:x}")
    names = board.throttled(tmp_path)
    kinds = [name.removesuffix(" now").removesuffix(" since boot") for name in names]
    assert len(set(kinds)) == len(kinds) == bin((word | word >> 16) & 15).count("1")


def test_memory(tmp_path):
    assert board.memory_available_bytes(tmp_path) is None
    put(tmp_path, "proc/meminfo", "MemTotal:  949448 kB\nMemAvailable: 512 kB\nHugePages_Total:   3\nBad line\n")
    assert board.memory_available_bytes(tmp_path) == 512 * 1024
    assert board.memory_info(tmp_path)["HugePages_Total"] == 3


def test_free_disk_of_a_path_that_is_not_there_yet(tmp_path):
    assert board.disk_free_bytes(tmp_path / "not" / "there" / "log.jsonl") > 0
    file = put(tmp_path, "file", "")
    assert board.disk_free_bytes(file / "below") is None


def test_this_machine_is_read_without_an_error():
    assert board.temperature_c() is None or -40 < board.temperature_c() < 150
    assert isinstance(board.throttled(), tuple)
    assert (board.memory_available_bytes() or 1) > 0
    board.governor()

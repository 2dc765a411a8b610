"""What ``edge-run doctor`` says about machines, told from copies of what they show and from what children would say."""

import os

import pytest

from edge_runtime.doctor import machine, packages
from edge_runtime.doctor.findings import Level
from edge_runtime.doctor.packages import Python, examine_python, this_python
from edge_runtime.doctor.probe import Answer, probe
from support.files import put

GLIBC = "glibc 2.36"


def worst(findings):
    findings, order = list(findings), list(Level)
    finding = max(findings, key=lambda item: order.index(item.level))
    assert all((item.remedy is not None) >= (item.level in (Level.WARNING, Level.PROBLEM)) for item in findings)
    return finding.level, f"{finding.found}; {finding.remedy}"


@pytest.mark.parametrize(
    ("python", "level", "says"),
    [
        (Python((3, 11), "aarch64", 64, GLIBC), Level.OK, ""),
        (Python((3, 11), "x86_64", 64, "glibc 2.28"), Level.OK, ""),
        (Python((3, 11), "aarch64", 32, GLIBC), Level.PROBLEM, "arm_64bit=0"),
        (Python((3, 11), "armv7l", 32, GLIBC), Level.WARNING, "tflite-runtime"),
        (Python((3, 16), "aarch64", 64, GLIBC), Level.WARNING, "3.10 to 3.14"),
        (Python((3, 11), "riscv64", 64, GLIBC), Level.WARNING, "wheels"),
        (Python((3, 11), "aarch64", 64, ""), Level.PROBLEM, "musl"),
        (Python((3, 11), "aarch64", 64, "glibc 2.24"), Level.WARNING, "upgrade"),
        (Python((3, 11), "aarch64", 64, "glibc"), Level.PROBLEM, "musl"),
    ],
)
def test_python_and_c_library(python, level, says):
    found, text = worst(examine_python(python))
    assert found is level
    assert says in text


def test_this_machine_can_be_looked_at():
    assert worst(examine_python(this_python()))[0] is Level.OK
    assert {finding.topic for finding in machine.examine_board()} >= {"processor", "disk"}
    assert machine.clock_is_synchronised() in (True, False, None)
    assert list(machine.examine_cameras())
    assert list(machine.examine_edge_tpu())


@pytest.mark.parametrize(
    ("files", "topic", "level", "says"),
    [
        ({"class/thermal/thermal_zone0/temp": "84000"}, "temperature", Level.WARNING, "heat sink"),
        ({"class/thermal/thermal_zone0/temp": "77000"}, "temperature", Level.INFO, "warm"),
        ({"class/thermal/thermal_zone0/temp": "45000"}, "temperature", Level.OK, "45 °C"),
        ({"devices/platform/soc/soc:firmware/get_throttled": "1"}, "throttling", Level.WARNING, "power supply"),
        ({"devices/platform/soc/soc:firmware/get_throttled": "80000"}, "throttling", Level.WARNING, "heat sink"),
        ({"devices/system/cpu/cpu0/cpufreq/scaling_governor": "ondemand"}, "governor", Level.INFO, "performance"),
        ({"devices/system/cpu/cpu0/cpufreq/scaling_governor": "performance"}, "governor", Level.OK, "performance"),
        ({"../proc/meminfo": "MemTotal: 900000 kB\nMemAvailable: 100000 kB"}, "memory", Level.WARNING, "100 MB"),
        ({"../proc/meminfo": "MemTotal: 900000 kB\nMemAvailable: 700000 kB"}, "swap", Level.INFO, "zram-tools"),
        (
            {
                "../proc/meminfo": "MemTotal: 9 kB\nMemAvailable: 9 kB\nSwapTotal: 100000 kB",
                "../proc/swaps": "/dev/zram0",
            },
            "swap",
            Level.OK,
            "zram",
        ),
    ],
)
def test_the_board(tmp_path, files, topic, level, says):
    (tmp_path / "sys").mkdir()
    for name, text in files.items():
        put(tmp_path, os.path.normpath(f"sys/{name}"), text)
    found = [finding for finding in machine.examine_board(tmp_path) if finding.topic == topic]
    assert worst(found)[0] is level
    assert says in worst(found)[1]


@pytest.mark.parametrize(
    ("free", "level"),
    [(10 << 20, Level.PROBLEM), (200 << 20, Level.WARNING), (2 << 30, Level.OK), (None, Level.WARNING)],
)
def test_the_disk(monkeypatch, free, level):
    monkeypatch.setattr(machine.board, "disk_free_bytes", lambda _path: free)
    assert {finding.level for finding in machine.examine_board() if finding.topic == "disk"} == {level}


def test_a_user_without_a_home_is_told(monkeypatch):
    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(machine, "cache_folder", homeless)
    assert any("EDGEKIT_CACHE" in (finding.remedy or "") for finding in machine.examine_board())


def test_cameras_are_named_and_codecs_are_not(tmp_path, monkeypatch):
    names = {0: "unicam", 2: "USB Cam", 10: "bcm2835-codec-decode", 13: "bcm2835-isp-output0", 3: "Locked Cam"}
    for number, name in names.items():
        put(tmp_path, f"sys/class/video4linux/video{number}/name", name)
        put(tmp_path, f"dev/video{number}")
    put(tmp_path, "sys/class/video4linux/video9/name", "without a node")
    put(tmp_path, "sys/class/video4linux/v4l-subdev0/name", "sensor")
    real = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: "video3" not in str(path) and real(path, mode))
    found = list(machine.examine_cameras(tmp_path))
    assert [finding.found.split(":")[0] for finding in found] == ["/dev/video0", "/dev/video2", "/dev/video3"]
    assert [finding.level for finding in found] == [Level.INFO, Level.OK, Level.WARNING]
    assert "usermod -aG video" in (found[2].remedy or "")


def test_a_node_that_does_not_capture_is_no_camera(tmp_path, monkeypatch):
    put(tmp_path, "sys/class/video4linux/video0/name", "USB Cam")
    put(tmp_path, "sys/class/video4linux/video1/name", "USB Cam metadata")
    put(tmp_path, "dev/video0")
    put(tmp_path, "dev/video1")
    answers = iter([(0x84A00001, 0x04200001), (0x84A00001, 0x04A00000)])

    def ioctl(_handle, request, buffer):
        everything, of_node = next(answers)
        assert (request, len(buffer)) == (0x80685600, 104)
        return buffer[:84] + everything.to_bytes(4, "little") + of_node.to_bytes(4, "little") + buffer[92:]

    monkeypatch.setattr(machine.fcntl, "ioctl", ioctl)
    assert [camera.path.name for camera in machine.find_cameras(tmp_path)] == ["video0"]


def usb_stick(root, vendor="1a6e", product="089a"):
    for name, text in {"idVendor": vendor, "idProduct": product, "busnum": "2", "devnum": "7"}.items():
        put(root, f"sys/bus/usb/devices/2-1/{name}", f"{text}\n")
    return put(root, "dev/bus/usb/002/007")


def test_an_edge_tpu_and_what_it_lacks(tmp_path, monkeypatch):
    assert worst(machine.examine_edge_tpu(tmp_path))[0] is Level.INFO
    usb_stick(tmp_path)
    assert "libedgetpu1-std" in worst(machine.examine_edge_tpu(tmp_path))[1]
    put(tmp_path, "usr/lib/aarch64-linux-gnu/libedgetpu.so.1")
    found = worst(machine.examine_edge_tpu(tmp_path))
    assert found == (Level.OK, "/dev/bus/usb/002/007, with libedgetpu.so.1; None")
    usb_stick(tmp_path, "18d1", "9302")
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert "usermod -aG plugdev" in worst(machine.examine_edge_tpu(tmp_path))[1]


def test_an_edge_tpu_on_pci_without_its_driver(tmp_path):
    put(tmp_path, "sys/bus/pci/devices/0/vendor", "0x1ac1")
    put(tmp_path, "sys/bus/pci/devices/0/device", "0x089a")
    put(tmp_path, "usr/lib/libedgetpu.so.1")
    assert "gasket-dkms" in worst(machine.examine_edge_tpu(tmp_path))[1]
    put(tmp_path, "dev/apex_0")
    assert worst(machine.examine_edge_tpu(tmp_path))[0] is Level.OK


def examine(monkeypatch, installed, answers):
    """Findings by topic, for distributions with versions and what children would say; they say that all is well."""
    by_package = {"ai_edge_litert": "ai-edge-litert", "tflite_runtime": "tflite-runtime", "onnxruntime": "onnxruntime"}
    monkeypatch.setattr(packages, "installed_version", installed.get)
    specs = {module: package in installed for module, package in by_package.items()}
    monkeypatch.setattr(packages.importlib.util, "find_spec", lambda name: specs.get(name, name in installed) or None)
    found = {}
    for finding in packages.examine_packages(lambda *question: answers.get(question, Answer({"version": "1"}))):
        found.setdefault(finding.topic, []).append(finding)
    return found


def test_numpy_2_under_tflite_runtime_is_recognised(monkeypatch):
    broken = {("tiny", "tflite-runtime"): Answer(failure="_ARRAY_API not found", error_type="AttributeError")}
    installed = {"tflite-runtime": "2.14.0", "numpy": "2.2.6"}
    level, text = worst(examine(monkeypatch, installed, broken)["tflite-runtime"])
    assert level is Level.PROBLEM
    assert "pip install 'numpy<2'" in text
    level, _ = worst(examine(monkeypatch, installed | {"ai-edge-litert": "2.3.0"}, broken)["tflite-runtime"])
    assert level is Level.WARNING


@pytest.mark.parametrize(
    ("answer", "remedy"),
    [
        (Answer(failure="crashed its process (SIGILL)", error_type="SIGILL"), "instructions"),
        (Answer(failure="/lib/libc.so.6: version `GLIBC_2.38' not found", error_type="ImportError"), "upgrade"),
        (Answer(failure="libfoo.so: cannot open shared object file", error_type="ImportError"), "apt-file"),
        (Answer(failure="gave no answer", error_type="TimeoutExpired"), "--force-reinstall ai-edge-litert"),
    ],
)
def test_a_litert_that_does_not_run(monkeypatch, answer, remedy):
    installed = {"ai-edge-litert": "2.3.0", "tflite-runtime": "2.14.0", "numpy": "1.26.4"}
    level, text = worst(examine(monkeypatch, installed, {("tiny", "litert"): answer})["litert"])
    assert level is Level.PROBLEM
    assert remedy in text


def test_no_runtime_no_opencv_no_extras(monkeypatch):
    without_gl = Answer(failure="libGL.so.1: cannot open shared object file", error_type="ImportError")
    found = examine(monkeypatch, {"opencv-python": "4.11"}, {("import", "cv2"): without_gl})
    remedy = "pip install ai-edge-litert, on 32 bit pip install tflite-runtime 'numpy<2'"
    assert worst(found["litert"]) == (Level.PROBLEM, f"no runtime for .tflite files is installed; {remedy}")
    assert "opencv-python-headless" in worst(found["opencv"])[1]
    assert worst(found["extras"])[0] is Level.INFO
    assert any("edgekit[mqtt]" in (finding.remedy or "") for finding in found["extras"])
    both = examine(monkeypatch, {"opencv-python": "4.11", "opencv-python-headless": "4.11"}, {})
    assert worst(both["opencv"])[0] is Level.WARNING


def test_a_probe_survives_any_end_of_its_child(monkeypatch, tmp_path):
    assert probe("import", "json").failure is None
    missing = Answer(failure="No module named 'no_such_module'", error_type="ModuleNotFoundError")
    assert probe("import", "no_such_module") == missing
    bodies = {
        "import os; os.abort()": ("crashed its process (SIGABRT)", "SIGABRT"),
        "import sys; sys.exit(3)": ("ended without an error message", None),
        "print('{}x')": ("gave an answer that cannot be read", None),
        "print([1])": ("gave an answer that cannot be read", None),
        "print('noise'); print('{\"a\": 1}')": (None, None),
        "import time; time.sleep(60)": ("gave no answer for 2 seconds", "TimeoutExpired"),
    }
    monkeypatch.syspath_prepend(tmp_path)
    for body, (failure, error_type) in bodies.items():
        put(tmp_path, "edgekit_fake_child.py", f"def main():\n    {body}")
        answer = probe("x", module="edgekit_fake_child", timeout_s=2.0 if "sleep" in body else 60.0)
        assert (answer.failure, answer.error_type) == (failure, error_type), body

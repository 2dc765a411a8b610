"""Checks of the machine: board, memory, disk, clock, cameras and accelerators. Imports nothing native."""

from __future__ import annotations

import ctypes
import fcntl
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edge_runtime.doctor.findings import Finding, info, ok, problem, warning
from edge_runtime.platform import board
from edge_runtime.platform.board import cpu_model
from edge_runtime.platform.process import cache_folder, core_count

_LOW_MEMORY_BYTES = 150 << 20
_LOW_DISK_BYTES = 500 << 20
_NO_DISK_BYTES = 50 << 20
_SMALL_BOARD_BYTES = 1 << 30
_HOT_C = 75.0
_TOO_HOT_C = 80.0  # where a Raspberry Pi begins to slow down
_SLOW_GOVERNORS = ("powersave", "ondemand", "conservative")
_STA_UNSYNC = 0x40
_POWER = "use the board's own power supply and a short, thick cable, and unplug USB devices that draw power"
_COOLING = "add a heat sink or a fan, or improve the air flow"
# An Edge TPU has the first id until libedgetpu has loaded its firmware, then the second.
_USB_IDS = (("1a6e", "089a"), ("18d1", "9302"))
_PCI_ID = ("0x1ac1", "0x089a")
_LIBRARY_FOLDERS = ("lib/*", "lib", "usr/lib/*", "usr/lib", "usr/local/lib", "usr/local/lib/*")
# VIDIOC_QUERYCAP of linux/videodev2.h: 104 bytes, capabilities at 84, those of this node at 88.
_QUERYCAP = 0x80685600
_QUERYCAP_BYTES = 104
_CAPS_OFFSET = 84
_CAPTURE, _CAPTURE_MPLANE, _DEVICE_CAPS = 0x1, 0x1000, 0x80000000
# Nodes of a Raspberry Pi that are no cameras: codecs and the image processor behind the CSI port.
_NO_CAMERAS = ("bcm2835-codec", "bcm2835-isp", "pispbe", "rpivid", "rpi-hevc")
_CSI = ("unicam", "rp1-cfe")
_GROUP = "sudo usermod -aG {group} $USER, then log in again"


def examine_board(root: Path = board.ROOT) -> Iterator[Finding]:
    """Check processor, governor, temperature, throttling, memory, swap, disk and clock.

    Args:
        root: Folder that holds ``proc`` and ``sys``.
    """
    cores = core_count()
    yield ok("processor", f"{cpu_model(root)}, {cores} core{'' if cores == 1 else 's'} to use")
    yield from _examine_governor(root)
    yield from _examine_temperature(root)
    yield from _examine_memory(root)
    yield from _examine_disk()
    yield from _examine_clock()


def _examine_governor(root: Path) -> Iterator[Finding]:
    governor = board.governor(root)
    if governor in _SLOW_GOVERNORS:
        yield info(
            "governor",
            f"{governor}: single images take longer, as the clock rises only under load",
            "for the shortest latency: sudo cpupower frequency-set -g performance",
        )
    elif governor:
        yield ok("governor", governor)


def _examine_temperature(root: Path) -> Iterator[Finding]:
    celsius = board.temperature_c(root)
    if celsius is not None:
        text = f"{celsius:.0f} °C"
        if celsius >= _TOO_HOT_C:
            yield warning("temperature", f"{text}: boards slow down from {_TOO_HOT_C:.0f} °C", _COOLING)
        elif celsius >= _HOT_C:
            yield info("temperature", f"{text}: warm; boards slow down from {_TOO_HOT_C:.0f} °C", _COOLING)
        else:
            yield ok("temperature", text)
    for reason in board.throttled(root):
        remedy = _POWER if "voltage" in reason else _COOLING
        if "voltage" not in reason and "temperature" not in reason:
            remedy = f"{_COOLING}; {_POWER}"
        yield warning("throttling", reason, remedy)


def _examine_memory(root: Path) -> Iterator[Finding]:
    memory = board.memory_info(root)
    total, available = memory.get("MemTotal"), memory.get("MemAvailable")
    if total is None or available is None:
        return
    text = f"{_size(available)} of {_size(total)} available"
    if available < _LOW_MEMORY_BYTES:
        yield warning("memory", f"{text}; edge-run takes about 100 MB", "stop other programs, such as the desktop")
    else:
        yield ok("memory", text)
    swap = memory.get("SwapTotal", 0)
    is_zram = "zram" in (board.read_text(root / "proc/swaps") or "")
    if swap:
        yield ok("swap", f"{_size(swap)}{', compressed in memory (zram)' if is_zram else ''}")
    elif total < _SMALL_BOARD_BYTES:
        yield info("swap", "none, on a board with little memory", "install zram-tools for compressed memory")


def _examine_disk() -> Iterator[Finding]:
    places = {"this folder": Path.cwd()}
    try:
        places["the cache"] = cache_folder()
    except RuntimeError:
        yield warning("cache", "this user has no home folder", "set EDGEKIT_CACHE to a folder that it can write")
    for name, path in places.items():
        free = board.disk_free_bytes(path)
        text = f"{name} ({path}): {_size(free)} free" if free is not None else ""
        if free is None:
            yield warning("disk", f"{name} ({path}) cannot be examined", "check that this user may read it")
        elif free < _NO_DISK_BYTES:
            yield problem("disk", text, "free some space: nothing can be written")
        elif free < _LOW_DISK_BYTES:
            yield warning("disk", text, "free some space, or limit the output with --rotate and --save-quota")
        else:
            yield ok("disk", text)


class _Timex(ctypes.Structure):
    """Beginning of ``struct timex`` (adjtimex(2)); the rest is reserved space."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_byte * 512),
    )


def clock_is_synchronised() -> bool | None:
    """Tell whether the kernel's clock follows a time server; None if unknown."""
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "adjtimex"):
        return None
    timex = _Timex()
    state: int = libc.adjtimex(ctypes.byref(timex))
    return None if state < 0 else not timex.status & _STA_UNSYNC


def _examine_clock() -> Iterator[Finding]:
    synchronised = clock_is_synchronised()
    if synchronised:
        yield ok("clock", "follows a time server")
    elif synchronised is not None:
        yield info(
            "clock",
            "follows no time server: times in results may be wrong, and TLS may fail",
            "sudo timedatectl set-ntp true, and let the board reach a time server",
        )


def _size(value_bytes: int) -> str:
    return f"{value_bytes / 1e9:.1f} GB" if value_bytes >= 1e9 else f"{value_bytes / 1e6:.0f} MB"


@dataclass(frozen=True)
class Camera:
    """A V4L2 node that captures images.

    Attributes:
        path: Device node, such as ``/dev/video0``.
        name: Name from its driver.
        usable: True if this user may open it.
    """

    path: Path
    name: str
    usable: bool


def examine_cameras(root: Path = board.ROOT) -> Iterator[Finding]:
    """Check V4L2 cameras; ``root`` is the folder that holds ``dev`` and ``sys``."""
    cameras = list(find_cameras(root))
    for camera in cameras:
        node = f"/{camera.path.relative_to(root)}"
        if camera.name.startswith(_CSI):
            yield info("camera", f"{node}: {camera.name}, a camera at the CSI port", "read it with --source picamera")
        elif camera.usable:
            yield ok("camera", f"{node}: {camera.name}")
        else:
            yield warning("camera", f"{node}: {camera.name}: this user may not open it", _GROUP.format(group="video"))
    if not cameras:
        yield info(
            "camera",
            "no V4L2 camera (/dev/video*)",
            "connect a USB camera; for a Raspberry Pi camera see picamera2 above; streams need none",
        )


def find_cameras(root: Path = board.ROOT) -> Iterator[Camera]:
    """Find capture nodes in the order of their numbers, without codecs and metadata nodes."""
    nodes = [path for path in root.glob("sys/class/video4linux/video*") if path.name[5:].isdecimal()]
    for entry in sorted(nodes, key=lambda path: int(path.name[5:])):
        node = root / "dev" / entry.name
        if not node.exists():
            continue
        name = board.read_text(entry / "name") or "unnamed"
        if name.startswith(_NO_CAMERAS):
            continue
        if not os.access(node, os.R_OK | os.W_OK):
            yield Camera(node, name, usable=False)
        elif _captures(node):
            yield Camera(node, name, usable=True)


def _captures(node: Path) -> bool:
    """Tell whether the node captures images; True if it does not answer, so that it is listed."""
    try:
        handle = os.open(node, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return True  # for example opened exclusively by another program
    try:
        answer = fcntl.ioctl(handle, _QUERYCAP, bytes(_QUERYCAP_BYTES))
    except OSError:
        return True
    finally:
        os.close(handle)
    everything, of_node = struct.unpack_from("II", answer, _CAPS_OFFSET)
    capabilities = of_node if everything & _DEVICE_CAPS else everything
    # Codecs report capturing with other bits.
    return bool(capabilities & (_CAPTURE | _CAPTURE_MPLANE))


def examine_edge_tpu(root: Path = board.ROOT) -> Iterator[Finding]:
    """Check the Edge TPU and its library; ``root`` is the folder that holds ``dev``, ``sys`` and ``usr``."""
    library = next(
        (path for folder in _LIBRARY_FOLDERS for path in sorted(root.glob(f"{folder}/libedgetpu.so.1"))), None
    )
    apexes, on_usb = sorted(root.glob("dev/apex_*")), list(_usb_nodes(root))
    on_pci = any(_is_edge_tpu(path) for path in root.glob("sys/bus/pci/devices/*"))
    if not apexes and not on_usb and not on_pci:
        installed = ", though libedgetpu is installed" if library else ""
        yield info("edge tpu", f"none is connected{installed}")
        return
    if library is None:
        yield warning(
            "edge tpu",
            "one is connected, but libedgetpu is not installed",
            "install libedgetpu1-std, see docs/coral.md; until then models run on the CPU",
        )
        return
    if on_pci and not apexes:
        yield warning(
            "edge tpu", "one is on PCI, but there is no /dev/apex_0", "install gasket-dkms, see docs/coral.md"
        )
        return
    nodes = {"apex": apexes, "plugdev": on_usb}
    for group, found in nodes.items():
        for node in found:
            name = f"/{node.relative_to(root)}"
            if os.access(node, os.R_OK | os.W_OK):
                yield ok("edge tpu", f"{name}, with {library.name}")
            else:
                yield warning("edge tpu", f"{name}: this user may not open it", _GROUP.format(group=group))


def _usb_nodes(root: Path) -> Iterator[Path]:
    for device in sorted(root.glob("sys/bus/usb/devices/*")):
        if (board.read_text(device / "idVendor"), board.read_text(device / "idProduct")) in _USB_IDS:
            bus, number = board.read_text(device / "busnum") or "", board.read_text(device / "devnum") or ""
            if bus.isdecimal() and number.isdecimal():
                yield root / f"dev/bus/usb/{int(bus):03d}/{int(number):03d}"


def _is_edge_tpu(device: Path) -> bool:
    return (board.read_text(device / "vendor"), board.read_text(device / "device")) == _PCI_ID

"""Cameras and accelerators that are plugged in, and whether this user may use them."""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edge_runtime import board
from edge_runtime.doctor.findings import Finding, info, ok, warning

# An Edge TPU announces itself under the first id until libedgetpu has sent it its firmware, then under the second.
_USB_IDS = (("1a6e", "089a"), ("18d1", "9302"))
_PCI_ID = ("0x1ac1", "0x089a")
_LIBRARY_FOLDERS = ("lib/*", "lib", "usr/lib/*", "usr/lib", "usr/local/lib", "usr/local/lib/*")
# VIDIOC_QUERYCAP of linux/videodev2.h: 104 bytes, capabilities at 84, those of this node at 88.
_QUERYCAP = 0x80685600
_QUERYCAP_BYTES = 104
_CAPS_OFFSET = 84
_CAPTURE, _CAPTURE_MPLANE, _DEVICE_CAPS = 0x1, 0x1000, 0x80000000
# Nodes of a Raspberry Pi that are no cameras of their own: codecs and the image processor behind the CSI port.
_NO_CAMERAS = ("bcm2835-codec", "bcm2835-isp", "pispbe", "rpivid", "rpi-hevc")
_CSI = ("unicam", "rp1-cfe")
_GROUP = "sudo usermod -aG {group} $USER, then log in again"


@dataclass(frozen=True)
class Camera:
    """A V4L2 node that gives pictures.

    Attributes:
        path: Such as ``/dev/video0``.
        name: As its driver calls it.
        usable: Whether this user may open it.
    """

    path: Path
    name: str
    usable: bool


def examine_cameras(root: Path = board.ROOT) -> Iterator[Finding]:
    """V4L2 cameras; ``root`` is where ``dev`` and ``sys`` lie."""
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
            "plug a USB camera in; for a Raspberry Pi camera see picamera2 above; streams need none",
        )


def find_cameras(root: Path = board.ROOT) -> Iterator[Camera]:
    """Nodes that give pictures, in the order of their numbers; codecs and metadata nodes are left out."""
    nodes = [path for path in root.glob("sys/class/video4linux/video*") if path.name[5:].isdecimal()]
    for entry in sorted(nodes, key=lambda path: int(path.name[5:])):
        node = root / "dev" / entry.name
        if not node.exists():
            continue
        name = board.read_text(entry / "name") or "without a name"
        if name.startswith(_NO_CAMERAS):
            continue
        if not os.access(node, os.R_OK | os.W_OK):
            yield Camera(node, name, usable=False)
        elif _gives_pictures(node):
            yield Camera(node, name, usable=True)


def _gives_pictures(node: Path) -> bool:
    """Whether the node captures; one that does not answer is taken to, so that it is shown."""
    try:
        handle = os.open(node, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return True  # such as one that another program holds alone
    try:
        answer = fcntl.ioctl(handle, _QUERYCAP, bytes(_QUERYCAP_BYTES))
    except OSError:
        return True
    finally:
        os.close(handle)
    everything, of_node = struct.unpack_from("II", answer, _CAPS_OFFSET)
    capabilities = of_node if everything & _DEVICE_CAPS else everything
    # A codec that captures what it was sent says so with a bit of its own, not with these.
    return bool(capabilities & (_CAPTURE | _CAPTURE_MPLANE))


def examine_edge_tpu(root: Path = board.ROOT) -> Iterator[Finding]:
    """An Edge TPU and its library; ``root`` is where ``dev``, ``sys`` and ``usr`` lie."""
    library = next(
        (path for folder in _LIBRARY_FOLDERS for path in sorted(root.glob(f"{folder}/libedgetpu.so.1"))), None
    )
    apexes, on_usb = sorted(root.glob("dev/apex_*")), list(_usb_nodes(root))
    on_pci = any(_is_edge_tpu(path) for path in root.glob("sys/bus/pci/devices/*"))
    if not apexes and not on_usb and not on_pci:
        seen = ", though libedgetpu is installed" if library else ""
        yield info("edge tpu", f"none is plugged in{seen}")
        return
    if library is None:
        yield warning(
            "edge tpu",
            "one is plugged in, but libedgetpu is not installed",
            "install libedgetpu1-std, see docs/coral.md; until then models run on the processor",
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

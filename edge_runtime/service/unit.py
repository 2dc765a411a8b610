"""Text of a hardened systemd unit for one camera command; see systemd.service(5) and systemd.exec(5)."""

from __future__ import annotations

import grp
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_runtime.errors import UsageError
from edge_runtime.service.needs import Needs, quote_word

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
_MEMORY = re.compile(r"[1-9][0-9]{0,9}[KMGT]|[1-9][0-9]?%|infinity")
# Folders that the unit hides from the service; files in them are bound one by one.
_HIDDEN = tuple(map(Path, ("/home", "/root", "/run/user", "/tmp", "/var/tmp")))  # noqa: S108
_EDGE_TPU_GROUPS = ("plugdev", "apex")

_ALWAYS = """
DynamicUser=yes
ProtectSystem=strict
ProtectHome=tmpfs
PrivateTmp=yes
NoNewPrivileges=yes
CapabilityBoundingSet=
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
RemoveIPC=yes
KeyringMode=private
UMask=0077
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallErrorNumber=EPERM
""".strip()

_LIFE = """
Restart=on-failure
RestartSec=10
# Wrong options and a model that cannot be used do not mend themselves.
RestartPreventExitStatus=2 4
TimeoutStartSec=180
TimeoutStopSec=20
KillMode=mixed
# Fed by answers only: a camera that gives nothing for a minute, or a loop that hangs, is started again.
WatchdogSec=60
WatchdogSignal=SIGTERM
""".strip()


@dataclass(frozen=True)
class Service:
    """Description of one service.

    Attributes:
        name: Name of the unit, without ``.service``, and of its directories below /var.
        program: Command that is started, with the absolute path of ``edge-run``.
        program_folders: Folders of the program and its Python.
        needs: Resources that its arguments need.
        edge_tpu: True if it may use an Edge TPU.
        memory_max: Memory limit in systemd's notation, such as ``512M``.
        environment: File of variables, or None.
    """

    name: str
    program: tuple[str, ...]
    program_folders: tuple[Path, ...]
    needs: Needs
    edge_tpu: bool
    memory_max: str
    environment: Path | None


def render(service: Service, has_group: Callable[[str], bool] | None = None) -> str:
    """Render the text of the unit file.

    Args:
        service: Service to describe.
        has_group: Function that tells if this machine has a group, since systemd refuses a unit that names another.

    Raises:
        UsageError: The name, the memory limit or a path cannot be written into a unit.
    """
    if not NAME.fullmatch(service.name):
        raise UsageError(f"--name: expected letters, digits, '-' or '_', at most 63, got {service.name!r}")
    if not _MEMORY.fullmatch(service.memory_max):
        raise UsageError(f"--memory: expected a limit such as 512M, 1G, 50% or infinity, got {service.memory_max!r}")
    start = " ".join((*map(quote_word, service.program), "camera", *service.needs.words))
    sections = (
        "# A camera classifier, written by edge-run service.",
        f"[Unit]\nDescription=edgekit camera {service.name}",
        *(["After=network-online.target\nWants=network-online.target"] if service.needs.outside else []),
        "# It is started again for ever: a camera may be away for days.\nStartLimitIntervalSec=0",
        f"\n[Service]\nType=notify\nNotifyAccess=main\nExecStart=:{start}",
        _LIFE,
        _limits(service),
        "\n# Where it may write, and what it is given.",
        _places(service),
        "\n# Everything else is read-only, hidden or forbidden.",
        _ALWAYS,
        *_devices(service, has_group or _has_group),
        *_network(service),
        "\n[Install]\nWantedBy=multi-user.target\n",
    )
    return "\n".join(sections)


def _limits(service: Service) -> str:
    # Interactive programs on the same board come first.
    lines = [f"MemoryMax={service.memory_max}", "TasksMax=128", "Nice=5"]
    # Errors would follow the output to null, but belong in the journal.
    return "\n".join(lines if service.needs.prints else [*lines, "StandardOutput=null", "StandardError=journal"])


def _places(service: Service) -> str:
    needs = service.needs
    lines = [
        f"StateDirectory={service.name}",
        f"CacheDirectory={service.name}",
        *([f"LogsDirectory={service.name}"] if needs.logs else []),
        f"WorkingDirectory=/var/lib/{service.name}",
        f"Environment=EDGEKIT_CACHE=/var/cache/{service.name}",
        *([f"EnvironmentFile={_path(service.environment, quote=False)}"] if service.environment else []),
        *(f"LoadCredential={name}:{_path(path, quote=False)}" for name, path in needs.credentials.items()),
        *(f"BindReadOnlyPaths={_path(path)}" for path in hidden_paths((*service.program_folders, *needs.read))),
    ]
    return "\n".join(lines)


def hidden_paths(paths: Iterable[Path]) -> list[Path]:
    """List the paths that the unit would hide, without those inside another of them."""
    hidden = sorted({path for path in paths if any(path.is_relative_to(place) for place in _HIDDEN)})
    return [path for path in hidden if not any(path != other and path.is_relative_to(other) for other in hidden)]


def _devices(service: Service, has_group: Callable[[str], bool]) -> list[str]:
    rules: list[str] = []
    groups: list[str] = []
    if service.needs.camera:
        rules.append("char-video4linux rw")
        groups.append("video")
    if service.needs.camera == "picamera":
        rules += ["char-media rw", "char-dma_heap rw"]
    if service.edge_tpu:
        rules += ["char-usb_device rw", "char-apex rw"]
        groups += _EDGE_TPU_GROUPS
    if not rules:
        return ["PrivateDevices=yes"]
    found = [group for group in groups if has_group(group)]
    return [
        "DevicePolicy=closed",
        *(f"DeviceAllow={rule}" for rule in rules),
        *([f"SupplementaryGroups={' '.join(found)}"] if found else []),
    ]


def _network(service: Service) -> list[str]:
    needs = service.needs
    families = ["AF_UNIX", *(["AF_INET", "AF_INET6"] if needs.outside or needs.loopback else [])]
    if needs.camera == "picamera" or service.edge_tpu:
        families.append("AF_NETLINK")  # both look for devices through udev
    lines = [f"RestrictAddressFamilies={' '.join(families)}"]
    if needs.outside:
        return lines
    if needs.loopback:
        return [*lines, "IPAddressDeny=any", "IPAddressAllow=localhost"]
    # Device events come through the host's network namespace.
    return [*lines, "IPAddressDeny=any", *(["PrivateNetwork=yes"] if "AF_NETLINK" not in families else [])]


def _path(path: Path, *, quote: bool = True) -> str:
    text = str(path)
    if not text.isprintable() or set(text) & set(":\"'\\"):
        raise UsageError(f"{text!r}: a unit cannot name a path with a colon, quote or backslash; rename it")
    return quote_word(text) if quote else text.replace("%", "%%")


def _has_group(name: str) -> bool:
    try:
        grp.getgrnam(name)
    except KeyError:
        return False
    return True


def program_of(executable: Path) -> tuple[str, ...]:
    """Build the command that starts ``edge-run`` with the Python at ``executable``."""
    script = executable.with_name("edge-run")
    return (str(script),) if script.is_file() else (str(executable), "-m", "edge_runtime.cli")


def folders_of(*folders: str | Path) -> tuple[Path, ...]:
    """List absolute folders, each also with its links resolved, without duplicates."""
    found: Sequence[Path] = [Path(folder).absolute() for folder in folders]
    return tuple(dict.fromkeys([*found, *(folder.resolve() for folder in found)]))

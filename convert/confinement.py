"""Second wall around a child process of a conversion: it writes into its work folder only and reaches no network.

A model is loaded only after its layers or operators were found on a list (`convert.source`); the wall holds what gets
past the list, or was let past by ``--unsafe``. Linux enforces it: Landlock for files, seccomp for sockets, limits for
memory and the size of files. Where the kernel lacks one of them, the child runs without it, and ``--help`` says so.
Reading files is not restricted.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import os
import resource
import struct
import sys
from pathlib import Path

_PR_SET_NO_NEW_PRIVS, _PR_GET_SECCOMP, _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 38, 21, 22, 2
# Machine: its number in linux/audit.h, and the number of its system call socket.
_SYSTEMS = {"x86_64": (0xC000003E, 41), "aarch64": (0xC00000B7, 198)}
_IO_URING_SETUP, _X32 = 425, 0x40000000
_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_ALLOW, _DENY, _KILL = 0x7FFF0000, 0x00050000 | 13, 0x80000000
_GPU = Path("/dev/nvidiactl")
_DEVICES = ("null", "zero", "full", "nvidia*")
_LANDLOCK_CREATE_RULESET, _LANDLOCK_VERSION = 444, 1
_MAX_FILE_BYTES = 4 << 30


def main() -> None:
    """Confine this process, then run ``main()`` of a module: its arguments are module, memory in bytes, job file."""
    module, memory_bytes, job = sys.argv[1:4]
    sys.argv[:] = [module, job]
    # Before any library starts a thread, which would stay outside.
    confine(Path(job).parent, int(memory_bytes))
    importlib.import_module(module).main()


def confine(work_dir: Path, memory_bytes: int = 0) -> None:
    """Raise the walls around this process and its later threads and children, as far as the kernel has them.

    Args:
        work_dir: Only folder in which files can be written, made, renamed or removed.
        memory_bytes: Limit on the address space; 0 means none. With a GPU, whose driver reserves addresses for all of
            its memory, the limit is on data.
    """
    _limit(resource.RLIMIT_FSIZE, _MAX_FILE_BYTES)
    _limit(resource.RLIMIT_CORE, 0)
    if memory_bytes:
        _limit(resource.RLIMIT_DATA if _GPU.exists() else resource.RLIMIT_AS, memory_bytes)
    if not landlock_version():
        _refuse_sockets()
        return
    import landlockpy

    rights = landlockpy.AccessFS
    writing = ~(rights.READ_FILE | rights.READ_DIR | rights.EXECUTE)
    with landlockpy.Ruleset(
        handled_fs=landlockpy.fs_for_abi(landlockpy.abi_version()) & writing,
        scoped=landlockpy.Scope.SIGNAL | landlockpy.Scope.ABSTRACT_UNIX_SOCKET,
    ) as ruleset:
        ruleset.allow_path(work_dir, writing & ~rights.IOCTL_DEV)
        for device in [device for name in _DEVICES for device in Path("/dev").glob(name)]:
            with contextlib.suppress(OSError):
                ruleset.allow_path(device, rights.WRITE_FILE | rights.TRUNCATE | rights.IOCTL_DEV)
        ruleset.restrict()
    _refuse_sockets()


def landlock_version() -> int:
    """Give the kernel's version of Landlock; 0 without it, or without its Python package.

    Asked without that package, whose import takes a third of the time that ``--help`` may take.
    """
    if importlib.util.find_spec("landlockpy") is None:
        return 0
    return max(0, int(ctypes.CDLL(None).syscall(_LANDLOCK_CREATE_RULESET, None, 0, _LANDLOCK_VERSION)))


def describe() -> str:
    """Say in a sentence what the walls hold on this machine."""
    libc = ctypes.CDLL(None)
    no_network = os.uname().machine in _SYSTEMS and libc.prctl(_PR_GET_SECCOMP, 0, 0, 0, 0) >= 0
    network = "reaches no network" if no_network else "can reach the network (no seccomp here)"
    if landlock_version():
        return f"The process that loads it writes only to its work folder and {network}."
    return f"The process that loads it can write wherever you can (no Landlock here) and {network}."


def _limit(kind: int, most: int) -> None:
    hard = resource.getrlimit(kind)[1]
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(kind, (most, most))


def _refuse_sockets() -> None:
    """Make every new socket fail, by a filter of nine instructions; Landlock knows TCP only, and not on every kernel.

    Written by hand, since the packages for seccomp need a library that small systems lack (linux/filter.h).
    """
    if os.uname().machine not in _SYSTEMS or sys.maxsize < 2**32:
        return
    machine, socket = _SYSTEMS[os.uname().machine]
    program = [
        (_LOAD, 0, 0, 4),
        (_EQUAL, 0, 6, machine),
        (_LOAD, 0, 0, 0),
        (_EQUAL, 3, 0, socket),
        (_EQUAL, 2, 0, _IO_URING_SETUP),
        (_AT_LEAST, 1, 0, _X32),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _DENY),
        (_RETURN, 0, 0, _KILL),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *instruction) for instruction in program))
    header = ctypes.create_string_buffer(struct.pack("@HP", len(program), ctypes.addressof(code)))
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.c_void_p(ctypes.addressof(header)), 0, 0) != 0:
        print("this kernel has no seccomp: the network is open", file=sys.stderr)

#!/usr/bin/env bash
# Prepare emulated arm64 computers (a Raspberry Pi 4 and a Raspberry Pi 5) for tests/test_arm64_conformance.py.
#
#   tests/programs/arm64_root.sh [DIR]      DIR: $EDGEKIT_ARM64_ROOT, else .arm64 in the checkout
#
# Needs Debian or Ubuntu on x86-64 and its package sources; no root, chroot, container or binfmt. Out of the
# distribution's own arm64 packages it unpacks a Python, and with that one's pip it installs, as on a device, the real
# aarch64 wheels of edgekit's base dependencies and the wheel of edgekit that it builds from the checkout.
#
#   DIR/edge-run-cortex-a72 ...    is edge-run on a Raspberry Pi 4
#   DIR/edge-run-cortex-a76 ...    on a Raspberry Pi 5, whose processor has more instructions
#   DIR/python-cortex-a72 FILE.py  runs a program there, and so on; PYTHONPATH=. makes it use the checkout
#   DIR/wheel/edgekit-*.whl        is what was installed
#
# The guest's Python takes DIR/device/bin/python for its program, and that starts the emulator again; so children that
# are started by sys.executable work without binfmt.
#
# Where the machine's sources carry no arm64 packages (Ubuntu keeps them on another server), name a .list or .sources
# file that does in EDGEKIT_ARM64_SOURCES.
#
# A second run does only what has changed; after an edit of the checkout that is edgekit's wheel alone, without a
# network. Killed at any moment, it leaves nothing that a test would take for whole.
# Exit codes: 0 ready, 2 usage, 3 not Linux on x86-64, 4 a tool is missing, 5 the packages cannot be fetched,
# 6 the emulated Python does not start, 7 other wheels cannot be installed, 8 the sources hold no arm64 packages,
# 9 edgekit's wheel cannot be built or installed.
set -euo pipefail
umask 022
# What the caller set for its own Python or emulator must not reach the guest, nor its language apt's messages.
unset PYTHONHOME PYTHONPATH PYTHONSTARTUP QEMU_LD_PREFIX QEMU_STRACE QEMU_SET_ENV
export LC_ALL=C

CHECKOUT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
SCRIPT=$CHECKOUT/tests/programs/arm64_root.sh
EDGEKIT_SCRIPT=$CHECKOUT/tests/programs/arm64_edgekit.sh
CPUS="cortex-a72 cortex-a76"

say() { printf 'arm64: %s\n' "$1"; }
fail() {
    printf 'arm64: %s\n' "$2" >&2
    exit "$1"
}

check_machine() {
    [ "$(uname -s) $(uname -m)" = "Linux x86_64" ] ||
        fail 3 "expected Linux on x86_64, got $(uname -s) on $(uname -m); arm64 is emulated on that only"
    local tool
    for tool in apt-get dpkg-deb tar flock sha256sum; do
        command -v "$tool" >/dev/null || fail 4 "$tool is missing; this needs Debian or Ubuntu, or one of their images"
    done
}

# An apt of our own: lists, cache and state under $1, the machine's sources, keys and proxies, none of its hooks.
write_apt_conf() {
    mkdir -p "$1/lists/partial" "$1/cache/archives/partial" "$1/state"
    : >"$1/status"
    cat >"$1/apt.conf" <<END
Dir::State "$1/state";
Dir::State::lists "$1/lists";
Dir::State::status "$1/status";
Dir::Cache "$1/cache";
Dir::Log "$1";
APT::Architecture "arm64";
#clear APT::Architectures;
APT::Architectures { "arm64"; "amd64"; };
APT::Sandbox::User "";
Acquire::Languages "none";
Acquire::Retries "2";
Acquire::http::Timeout "30";
Acquire::https::Timeout "30";
Debug::NoLocking "true";
#clear APT::Update;
#clear DPkg;
END
    [ -z "${EDGEKIT_ARM64_SOURCES:-}" ] || cat >>"$1/apt.conf" <<END
Dir::Etc::sourcelist "$(realpath "$EDGEKIT_ARM64_SOURCES")";
Dir::Etc::sourceparts "-";
END
}

own_apt() { (cd "$1" && apt-get -q -y -c "$1/apt.conf" "${@:2}" >>"$1/log" 2>&1); }

fetch_packages() {
    # One broken source among several is no reason to stop: what counts is whether the packages are found.
    own_apt "$1" update || true
    own_apt "$1" install --no-install-recommends --download-only python3-venv libstdc++6 ||
        fail_to_fetch "$1/log" "Python for arm64"
    fetch_emulator "$1" qemu-user-static
    # Newer releases keep the static emulator in qemu-user, and only a link to it in the other.
    [ -e "$1/usr/bin/qemu-aarch64-static" ] || fetch_emulator "$1" qemu-user
}

fetch_emulator() {
    own_apt "$1" download "$2:amd64" || fail_to_fetch "$1/log" "$2"
    dpkg-deb --fsys-tarfile "$1/$2"_*.deb | tar -x -C "$1" --wildcards './usr/bin/qemu-aarch64*'
}

fail_to_fetch() {
    local failed
    failed=$(grep -m1 -E '^(Err|W: Failed)' "$1") && fail 5 "apt cannot fetch packages; is there a network? ($failed)"
    fail 8 "this machine's package sources do not hold $2; name a file that does in EDGEKIT_ARM64_SOURCES \
($(grep -m1 '^E:' "$1" || echo "apt gives no reason"))"
}

# What a processor says of itself. Without it, runtimes that look would read the x86 machine's and crash.
write_cpuinfo() {
    local root=$1 part=$2 features=$3 core file
    mkdir -p "$root/proc" "$root/sys/devices/system/cpu"
    for file in possible present online; do echo 0-3 >"$root/sys/devices/system/cpu/$file"; done
    for core in 0 1 2 3; do
        printf 'processor\t: %s\nBogoMIPS\t: 108.00\nFeatures\t: %s\nCPU implementer\t: 0x41\n' "$core" "$features"
        printf 'CPU architecture: 8\nCPU variant\t: 0x0\nCPU part\t: %s\nCPU revision\t: 3\n\n' "$part"
    done >"$root/proc/cpuinfo"
}

build_system() {
    local apt=$1/apt system=$1/system package cpu
    mkdir -p "$apt" "$system/usr/lib"
    ln -s usr/lib "$system/lib"
    say "fetching a Python for arm64 and the emulator from this machine's package sources (about 60 MB)"
    write_apt_conf "$apt"
    fetch_packages "$apt"
    for package in "$apt"/cache/archives/*.deb; do
        dpkg-deb --fsys-tarfile "$package" | tar -x -C "$system" --keep-directory-symlink --no-same-owner
    done
    cp -L "$apt/usr/bin/qemu-aarch64-static" "$system/qemu-aarch64"
    for cpu in $CPUS; do
        mkdir "$system/$cpu"
        ln -s ../usr ../lib "$system/$cpu/"
    done
    write_cpuinfo "$system/cortex-a72" 0xd08 "fp asimd evtstrm crc32 cpuid"
    write_cpuinfo "$system/cortex-a76" 0xd0b "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid \
asimdrdm lrcpc dcpop asimddp"
}

# Run Python in the guest: python_of SYSTEM CPU ARGUMENT... The processor is always named, since qemu's default, "max",
# has instructions whose emulation gives wrong int8 results. -S keeps the machine's own dist-packages out of sight.
python_of() {
    local system=$1 cpu=$2
    shift 2
    QEMU_CPU=$cpu PYTHONNOUSERSITE=1 PYTHONDONTWRITEBYTECODE=1 \
        "$system/qemu-aarch64" -L "$system/$cpu" "$system/usr/bin/python3" -S "$@"
}

check_guest() {
    local machine
    machine=$(python_of "$1" cortex-a72 -c 'import platform; print(platform.machine())' 2>&1 | tail -n 1) || true
    [ "$machine" = aarch64 ] || fail 6 "the emulated Python does not start here: ${machine:-no output}"
}

# The base dependencies as pyproject.toml has them, one a line; their markers are for the guest's pip to judge.
requirements() {
    PYTHONPATH=$(pip_wheel "$1") python_of "$1" cortex-a72 - "$CHECKOUT/pyproject.toml" <<'END'
import sys
try:
    import tomllib
except ImportError:  # Python 3.10
    from pip._vendor import tomli as tomllib
with open(sys.argv[1], "rb") as file:
    print("\n".join(tomllib.load(file)["project"]["dependencies"]))
END
}

pip_says() { grep -m1 -i '^ *ERROR' "$PARTIAL/pip.log" || tail -n 1 "$PARTIAL/pip.log"; }

pip_wheel() { echo "$1"/usr/share/python-wheels/pip-*.whl; }

install_wheels() {
    local system=$1 asked=$2 target=$2/site-packages
    say "installing the aarch64 wheels of the base dependencies"
    PIP_USER=0 PIP_REQUIRE_VIRTUALENV=0 PYTHONPATH=$(pip_wheel "$system") python_of "$system" cortex-a72 -m pip install \
        --quiet --disable-pip-version-check --root-user-action=ignore --only-binary=:all: --no-compile \
        --target "$target" -r "$asked/requirements.txt" -c "$asked/constraints.txt" >"$PARTIAL/pip.log" 2>&1 ||
        fail 7 "pip cannot install the base dependencies for arm64; pip says: $(pip_says)"
}

stamped() { [ "$(cat "$1/.stamp" 2>/dev/null)" = "$2" ]; }

# The tests take DIR for whole when the commands are there, so these go before anything is replaced and come last.
withdraw() { rm -f "$DIR"/python-* "$DIR"/edge-run-*; }

publish() {
    rm -rf "$2"
    mv "$1" "$2"
}

. "$EDGEKIT_SCRIPT"

main() {
    [ $# -le 1 ] && [ "${1:-}" != --help ] || fail 2 "usage: tests/programs/arm64_root.sh [DIR]"
    check_machine
    DIR=${1:-${EDGEKIT_ARM64_ROOT:-$CHECKOUT/.arm64}}
    mkdir -p "$DIR" 2>/dev/null && [ -w "$DIR" ] || fail 2 "$DIR: cannot be written; name another folder"
    [ -r "${EDGEKIT_ARM64_SOURCES:-/dev/null}" ] || fail 2 "EDGEKIT_ARM64_SOURCES: cannot read $EDGEKIT_ARM64_SOURCES"
    DIR=$(realpath "$DIR")
    exec 9>"$DIR/.lock"
    flock 9
    # The lock is ours, so whatever lies here was left by a run that was killed.
    rm -rf "$DIR"/partial.*
    PARTIAL=$(mktemp -d "$DIR/partial.XXXXXX")
    trap 'rm -rf "$PARTIAL"' EXIT

    local stamp cpu
    stamp=$(cat "$SCRIPT" ${EDGEKIT_ARM64_SOURCES:+"$EDGEKIT_ARM64_SOURCES"} | sha256sum)
    if ! stamped "$DIR/system" "$stamp"; then
        withdraw
        build_system "$PARTIAL"
        check_guest "$PARTIAL/system"
        echo "$stamp" >"$PARTIAL/system/.stamp"
        publish "$PARTIAL/system" "$DIR/system"
    fi
    requirements "$DIR/system" >"$PARTIAL/requirements.txt"
    cat "$CHECKOUT/constraints.txt" >"$PARTIAL/constraints.txt" 2>/dev/null || true
    stamp=$(echo "$stamp" | cat - "$PARTIAL/requirements.txt" "$PARTIAL/constraints.txt" | sha256sum)
    if ! stamped "$DIR/site-packages" "$stamp"; then
        withdraw
        install_wheels "$DIR/system" "$PARTIAL"
        echo "$stamp" >"$PARTIAL/site-packages/.stamp"
        publish "$PARTIAL/site-packages" "$DIR/site-packages"
    fi
    prepare_edgekit "$stamp"
    for cpu in $CPUS; do
        # An older emulator may not know the newer processor; its tests are then skipped.
        [[ "$("$DIR/system/qemu-aarch64" -cpu help)" == *"$cpu"* ]] || continue
        write_command edge-run "$cpu"
        write_command python "$cpu"
    done
    say "ready in $DIR"
}

main "$@"

# shellcheck shell=bash
# The part of tests/programs/arm64_root.sh that builds edgekit's wheel and installs it in the guest; read by that script, whose
# variables and functions it uses.

# Python of this machine, to build with: the checkout's own, else $PYTHON.
host_python() {
    local own=$CHECKOUT/.venv/bin/python
    if [ -x "$own" ]; then echo "$own"; else command -v "${PYTHON:-python3}"; fi
}

host_pip() { "$(host_python)" -m pip "$@" --quiet --disable-pip-version-check >"$PARTIAL/pip.log" 2>&1; }

# What building needs, kept, so that later builds need no network. setuptools reads a license given as text from 77 on.
install_builder() {
    host_pip install --target "$1" "setuptools>=77" wheel ||
        fail 7 "the tools that build edgekit's wheel cannot be installed; pip says: $(pip_says)"
}

# Everything that the wheel is made of, in an archive whose bytes change with it only.
pack_sources() {
    tar -C "$CHECKOUT" --sort=name --mtime=@0 --owner=0 --group=0 --mode=go-w --exclude=__pycache__ --exclude='*/*.md' \
        -cf "$1" pyproject.toml README.md LICENSE edge_runtime train convert benchmarks
}

# Built from a copy, because setuptools would pick up what an earlier build left in the checkout.
build_wheel() {
    mkdir "$PARTIAL/source"
    tar -C "$PARTIAL/source" -xf "$1"
    PYTHONPATH=$DIR/builder host_pip wheel --no-index --no-deps --no-build-isolation --wheel-dir "$2" "$PARTIAL/source" ||
        fail 9 "edgekit's wheel cannot be built; pip says: $(pip_says)"
}

# A virtual environment for both processors. Its python is a script, which Python takes for its own program (-0).
make_device() {
    local version
    version=$(python_of "$DIR/system" cortex-a72 -c 'import sys; print("python%d.%d" % sys.version_info[:2])')
    mkdir -p "$1/bin" "$1/lib/$version/site-packages"
    printf 'home = %s\ninclude-system-site-packages = false\n' "$DIR/system/usr/bin" >"$1/pyvenv.cfg"
    echo "$DIR/site-packages" >"$1/lib/$version/site-packages/base-wheels.pth"
    cat >"$1/bin/python" <<END
#!/bin/sh
# Python on the emulated processor that QEMU_CPU names; written by tests/programs/arm64_root.sh
unset PYTHONHOME PYTHONDONTWRITEBYTECODE  # compiled modules are kept, since emulation is slow
case "\${QEMU_CPU:-}" in ${CPUS// /|}) ;; *) QEMU_CPU=cortex-a72 ;; esac
export QEMU_CPU PYTHONNOUSERSITE=1
exec "$DIR/system/qemu-aarch64" -0 "$DIR/device/bin/python" -L "$DIR/system/\$QEMU_CPU" \\
    "$DIR/system/usr/bin/python3" "\$@"
END
    chmod +x "$1/bin/python"
}

# pip finds the base dependencies installed, or says which is missing. It writes the path of its Python into the console
# scripts, so the environment must already lie where it will stay.
install_edgekit() {
    say "installing edgekit's wheel"
    PIP_USER=0 PIP_REQUIRE_VIRTUALENV=0 PYTHONPATH=$(pip_wheel "$DIR/system") "$DIR/device/bin/python" -m pip install \
        --quiet --disable-pip-version-check --root-user-action=ignore --no-index --no-compile "$DIR"/wheel/*.whl \
        >"$PARTIAL/pip.log" 2>&1 || fail 9 "pip cannot install edgekit's wheel for arm64; pip says: $(pip_says)"
}

# A command that runs a program of the device on one processor.
write_command() {
    local program=$1 cpu=$2
    printf '#!/bin/sh\n# %s on an emulated %s; written by tests/programs/arm64_root.sh\nexport QEMU_CPU=%s\nexec "%s" "$@"\n' \
        "$program" "$cpu" "$cpu" "$DIR/device/bin/$program" >"$PARTIAL/command"
    chmod +x "$PARTIAL/command"
    mv "$PARTIAL/command" "$DIR/$program-$cpu"
}

# Build and install edgekit where its sources, or what lies under it (its stamp is $1), have changed or DIR was moved.
prepare_edgekit() {
    local stamp
    stamp=$(host_python | cat - "$EDGEKIT_SCRIPT" | sha256sum)
    if ! stamped "$DIR/builder" "$stamp"; then
        install_builder "$PARTIAL/builder"
        echo "$stamp" >"$PARTIAL/builder/.stamp"
        publish "$PARTIAL/builder" "$DIR/builder"
    fi
    pack_sources "$PARTIAL/sources.tar"
    stamp=$(sha256sum <"$PARTIAL/sources.tar")
    if ! stamped "$DIR/wheel" "$stamp"; then
        withdraw
        build_wheel "$PARTIAL/sources.tar" "$PARTIAL/wheel"
        echo "$stamp" >"$PARTIAL/wheel/.stamp"
        publish "$PARTIAL/wheel" "$DIR/wheel"
    fi
    stamp=$(echo "$1 $stamp $DIR" | cat - "$EDGEKIT_SCRIPT" | sha256sum)
    if ! stamped "$DIR/device" "$stamp"; then
        withdraw
        make_device "$PARTIAL/device"
        publish "$PARTIAL/device" "$DIR/device"
        install_edgekit
        echo "$stamp" >"$DIR/device/.stamp"
    fi
}

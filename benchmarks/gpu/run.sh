#!/usr/bin/env bash
# Measures what this machine's accelerators give, with whatever is installed, and says what could not run and
# why. Writes benchmarks/gpu/results.{json,md}. It reads the GPU's settings and changes none of them.
#
#   benchmarks/gpu/run.sh [--venv DIR] [--openvino DIR] [--no-tests] [arguments of python -m benchmarks.gpu]
#
#   --venv DIR       make an environment in DIR with what this machine can use, or take the one that is there:
#                    onnxruntime-gpu with its CUDA and cuDNN wheels where there is a driver (2.3 GB), plain
#                    onnxruntime where there is none; TensorRT for RTX and cuda-python in both cases; TensorRT
#                    with EDGEEMO_TENSORRT=1 (several GB more); pycuda with a driver, a compiler and CUDA's headers
#   --openvino DIR   the same for onnxruntime-openvino, which cannot lie beside another onnxruntime
#   --no-tests       leave out the tests that need a GPU
#
# Without --venv it takes PYTHON, else .venv/bin/python, else python3. Needs Linux, python3 with venv, and for
# --venv and --openvino a package index.
set -euo pipefail
cd "$(dirname "$0")/../.."
here=$PWD

venv="" openvino="" tests=1 rest=()
while [ $# -gt 0 ]; do
    case "$1" in
        --venv) venv=${2:?--venv needs a folder}; shift 2 ;;
        --openvino) openvino=${2:?--openvino needs a folder}; shift 2 ;;
        --no-tests) tests=0; shift ;;
        -h | --help) sed -n '2,18s/^# \{0,1\}//p' "$0"; exit 0 ;;
        *) rest+=("$1"); shift ;;
    esac
done

say() { echo "run.sh: $*" >&2; }

# The newest CUDA that the driver serves, such as 13; empty where there is no driver.
cuda_of_driver() {
    python3 2>/dev/null <<'PROGRAM' || true
import ctypes

version = ctypes.c_int()
ctypes.CDLL("libcuda.so.1").cuDriverGetVersion(ctypes.byref(version))
print(version.value // 1000)
PROGRAM
}

new_venv() {
    python3 -m venv "$1" || {
        say "python3 cannot make an environment in $1; on Debian and Ubuntu: apt-get install python3-venv"
        exit 1
    }
}

install() { "$1" -m pip install --quiet --disable-pip-version-check "${@:2}"; }

# The repository itself, without the plain onnxruntime that the extra "live" would bring.
install_edgeemo() {
    install "$1" --constraint constraints.txt --editable '.[camera,media,export,rtx,cuda]' pytest
}

if [ -n "$venv" ]; then
    if [ ! -x "$venv/bin/python" ]; then
        new_venv "$venv"
        python=$venv/bin/python
        cuda=$(cuda_of_driver)
        case "$cuda" in
            "") say "no NVIDIA driver: onnxruntime for the CPU"; onnxruntime=onnxruntime ;;
            12) onnxruntime='onnxruntime-gpu[cuda,cudnn]>=1.21,<1.27' ;;  # the last for CUDA 12
            *) onnxruntime='onnxruntime-gpu[cuda,cudnn]>=1.31' ;;
        esac
        say "installing $onnxruntime"
        install "$python" "$onnxruntime"
        install_edgeemo "$python"
        if [ "$cuda" = 12 ]; then
            "$python" -m pip uninstall --quiet --yes tensorrt_rtx_cu13{,_libs,_bindings} || true
            install "$python" tensorrt-rtx-cu12 || say "TensorRT for RTX could not be installed for CUDA 12"
        fi
        if [ "${EDGEEMO_TENSORRT:-0}" = 1 ]; then
            install "$python" "$([ "$cuda" = 12 ] && echo tensorrt-cu12 || echo tensorrt)" ||
                say "TensorRT could not be installed"
        fi
        if [ -n "$cuda" ]; then  # it is linked to the driver, so without one there is no use in trying
            say "building pycuda, which takes some minutes"
            install "$python" pycuda >/dev/null 2>&1 ||
                say "pycuda could not be built (it needs a C++ compiler and CUDA's headers): no rows for it"
        fi
    fi
    python=$venv/bin/python
else
    python=${PYTHON:-$([ -x .venv/bin/python ] && echo .venv/bin/python || echo python3)}
fi
"$python" -c "import edgeemo, numpy, onnxruntime, cv2, av" || {
    say "$python lacks what is needed; let me make an environment with --venv DIR,"
    say "or: pip install -e '.[live,export,rtx,cuda]'"
    exit 1
}

if [ -n "$openvino" ]; then
    if [ ! -x "$openvino/bin/python" ]; then
        new_venv "$openvino"
        say "installing onnxruntime-openvino"
        install "$openvino/bin/python" onnxruntime-openvino 'numpy>=1.23' 'opencv-python-headless>=4.8,<5' 'av>=12' ||
            say "onnxruntime-openvino could not be installed: no rows for it"
    fi
    case "$openvino" in /*) ;; *) openvino=$here/$openvino ;; esac
    rest+=(--python "openvino=$openvino/bin/python")
fi

if [ "$tests" = 1 ]; then
    status=0
    # named one by one: the other files need libraries that this environment may not have
    mapfile -t files < <(grep -rl --include='test_*.py' 'mark\.gpu' tests)
    "$python" -m pytest -q -m gpu "${files[@]}" || status=$?
    [ "$status" = 0 ] || [ "$status" = 5 ] || say "tests on the GPU ended with $status; measuring all the same"
fi
exec "$python" -m benchmarks.gpu "${rest[@]}"

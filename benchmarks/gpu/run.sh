#!/usr/bin/env bash
# Measures what this machine's accelerators give, with whatever is installed; what could not run says why.
# Writes benchmarks/gpu/gpu.{json,md}. Use the Python of the environment that has the libraries: PYTHON=... run.sh
set -euo pipefail
cd "$(dirname "$0")/../.."

PYTHON=${PYTHON:-$([ -x .venv/bin/python ] && echo .venv/bin/python || echo python3)}
"$PYTHON" -c "import edgeemo, onnxruntime, rich" || {
    echo "install edgeemo first, such as: $PYTHON -m pip install -e '.[gpu,cuda,rtx]' rich" >&2
    exit 1
}
"$PYTHON" -m pytest -q -m gpu tests/test_cuda.py tests/test_backends.py || [ $? -eq 5 ]
exec "$PYTHON" -m benchmarks.gpu "$@"

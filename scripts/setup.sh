#!/usr/bin/env bash
# Makes .venv with everything the project needs, or does nothing where it is up to date. Can be repeated.
#   scripts/setup.sh [EXTRA...]     extras of pyproject.toml, e.g. dev
# PYTHON chooses the interpreter, PIP_ARGS is handed to pip.
set -euo pipefail
cd "$(dirname "$0")/.."

fits() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null; }
find_python() {
    local candidate
    for candidate in ${PYTHON:-python3 python3.12 python3.11 python}; do
        if fits "$candidate"; then echo "$candidate"; return; fi
    done
    local first=${PYTHON:-python3}
    echo "setup: expected Python 3.11 or 3.12, found for $first: $("$first" --version 2>&1 || true); set PYTHON=/path/to/python3.12" >&2
    exit 2
}

extras=$(IFS=,; echo "$*")
stamp=.venv/.ready-${extras:-base}
if [ -e "$stamp" ] && [ "$stamp" -nt pyproject.toml ]; then exit 0; fi

if ! { fits .venv/bin/python && .venv/bin/python -m pip --version >/dev/null 2>&1; }; then
    python=$(find_python)
    rm -rf .venv
    "$python" -m venv .venv || { rm -rf .venv; echo "setup: $python cannot make environments; on Debian: apt-get install python3-venv" >&2; exit 1; }
fi
echo "setup: installing what pyproject.toml names into .venv, $(.venv/bin/python --version) (a few minutes the first time)"
# shellcheck disable=SC2086
.venv/bin/python -m pip install --quiet --disable-pip-version-check ${PIP_ARGS:-} --editable ".${extras:+[$extras]}" 2>.venv/install.log || {
    tail -n 20 .venv/install.log >&2
    echo "setup: pip failed; the lines above say why, .venv/install.log says all" >&2
    exit 1
}
if ! command -v quarto >/dev/null && [ ! -e .venv/.quarto-tried ]; then
    echo "setup: looking for Quarto (a download of about 150 MB)"
    bounded=$(command -v timeout >/dev/null && echo "timeout 600" || true)
    # shellcheck disable=SC2086
    if $bounded .venv/bin/python -m pip install --quiet --disable-pip-version-check ${PIP_ARGS:-} --retries 1 --editable ".[quarto]" >>.venv/install.log 2>&1; then
        echo "setup: Quarto is installed"
    else
        echo "setup: Quarto could not be installed here; reports are rendered by the built-in renderer"
    fi
    touch .venv/.quarto-tried
fi
touch "$stamp"
echo "setup: done"

#!/usr/bin/env bash
# Open output files with the programs that people use: docs/reliability.md#other-programs.
#
#   tools/prove.sh              install what is missing (Debian, as root; npm), then run tests/proof
#   tools/prove.sh --small      the same without Blender and OpenImageIO, whose packages are large
#   tools/prove.sh --installed  install nothing: what is missing is skipped
#
# Python is that of the .venv which `make test` sets up, or the one on the PATH.
set -euo pipefail
cd "$(dirname "$0")/.."

VALIDATOR=2.0.0-dev.3.10
CACHE=$HOME/.cache/jointnet-proof
SMALL=(openexr libimage-exiftool-perl ffmpeg)
LARGE=(openimageio-tools blender python3-numpy)
mode=${1:-}

if [ "$mode" != --installed ]; then
    packages=("${SMALL[@]}")
    [ "$mode" = --small ] || packages+=("${LARGE[@]}")
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
    fi
    if command -v npm >/dev/null && [ ! -d "$CACHE/node_modules/gltf-validator" ]; then
        mkdir -p "$CACHE"
        npm install --silent --no-fund --no-audit --prefix "$CACHE" "gltf-validator@$VALIDATOR"
    fi
    # Debian 12 has no exrcheck.
    JOINTNET_PROOF=exrcheck
    [ "$mode" != --small ] || JOINTNET_PROOF=exrcheck,blender,oiiotool,iinfo
    command -v npm >/dev/null || JOINTNET_PROOF+=,npm,gltf-validator  # node is installed by other means
    export JOINTNET_PROOF
fi

pytest=pytest
[ ! -x .venv/bin/pytest ] || pytest=.venv/bin/pytest
"$pytest" tests/proof --ignore tests/proof/test_kills.py -rs -p no:cacheprovider  # that one needs no other program

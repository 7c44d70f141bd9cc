#!/bin/sh
# Install into an image with uv and compile what was installed, for any file times.
# usage: install.sh FOLDER-PATTERN MODULE WORD...   (the pattern is below the engines' folder)
set -eu
folder=$1
shift
export LLMSERVICE_CACHE_DIR=/tmp/llmservice-cache UV_CACHE_DIR=/tmp/uv-cache
if [ -d /uv ]; then UV_CACHE_DIR=/uv; fi
python3 -m "$@"
rm -rf /tmp/* # caches, and what engines left when they were tried
cd "$LLMSERVICE_ENGINES_DIR"
rm -f ./*.log .*.lock
# Packages carry files for other Pythons, which this one can't compile.
# shellcheck disable=SC2086
python3 -m compileall -qq -f -j 0 --invalidation-mode unchecked-hash $folder || true

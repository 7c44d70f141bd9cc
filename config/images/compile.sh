#!/bin/sh
# Compile Python packages for any file times. usage: compile.sh FOLDER...
set -eu
for folder in "$@"; do
    # Packages carry files for other Pythons, which this one can't compile.
    python3 -m compileall -q -f -j 0 --invalidation-mode unchecked-hash "$folder" || true
done

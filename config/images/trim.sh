#!/bin/sh
# Make virtual environments ready for an image: without what only builds, compiled for any file times.
# usage: trim.sh ENVIRONMENT...
set -eu
for environment in "$@"; do
    rm -rf "$environment"/bin/pip* "$environment"/bin/*ctivate* "$environment"/include
    for packages in "$environment"/lib/python3.*/site-packages; do
        # lib: a second copy of llama.cpp's libraries that its wheel brings and nothing loads.
        (cd "$packages" && rm -rf pip pip-* setuptools setuptools-* pkg_resources _distutils_hack distutils-precedence.pth lib)
    done
    # Compiled files are checked by nothing but their name, so no time stands in them.
    python3 -m compileall -q -f -j 1 --invalidation-mode unchecked-hash "$environment/lib"
done

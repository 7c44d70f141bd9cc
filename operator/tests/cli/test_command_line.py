"""The command line itself."""

from __future__ import annotations

import subprocess
import sys


def test_help_and_ps_load_nothing_heavy() -> None:
    """What keeps `--help` under 300 ms, on any machine."""
    for words, module in ((["--help"], "argparse"), (["ps", "--help"], "llmservice_cli.commands.ps")):
        code = (
            "import sys\n"
            "from llmservice_cli.main import main\n"
            f"try: main({words!r})\n"
            "except SystemExit: pass\n"
            f"assert {module!r} in sys.modules\n"
            "print([m for m in ('aiohttp', 'pydantic', 'yaml', 'boto3', 'httpx') if m in sys.modules])"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1] == "[]", done.stdout


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    code = "import sys; from llmservice_cli.main import main; sys.exit(main(['crds']))"
    done = subprocess.run(
        f'{sys.executable} -c "{code}" | head -1', shell=True, capture_output=True, text=True, check=True
    )
    assert "Traceback" not in done.stderr

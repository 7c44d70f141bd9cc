"""Asking systemd of this user."""

from __future__ import annotations

import getpass
import shutil
import subprocess

from llmservice_cli.autostart.unit import NAME
from llmservice_runtime.contract.errors import UserError

SECONDS = 30.0
OTHERWISE = (
    "Have `llmservice up -f FILE --detach` run when you log in: a line of ~/.profile, or `@reboot` in `crontab -e`; or "
    "print the unit with `llmservice autostart --print`."
)


def check() -> None:
    """UserError where systemd runs nothing for this user."""
    if shutil.which("systemctl") is None:
        raise UserError("this machine has no systemd (no systemctl).", OTHERWISE)
    done = _run("systemctl", "--user", "show", "--property=Version")
    if done.returncode:
        raise UserError(f"systemd runs nothing for this user here: {_said(done)}", OTHERWISE)


def enable(*, start: bool) -> None:
    """Have the unit start with the user's session, and now."""
    _must("systemctl", "--user", "daemon-reload")
    _must("systemctl", "--user", "enable", *(("--now",) if start else ()), NAME)


def disable() -> None:
    """The reverse; what runs of it ends."""
    _must("systemctl", "--user", "disable", "--now", NAME)


def lingers() -> bool:
    """Whether services of this user run without a session of theirs. False where nobody says."""
    done = _run("loginctl", "show-user", getpass.getuser(), "--property=Linger")
    return "yes" in done.stdout


def _must(*words: str) -> None:
    if (done := _run(*words)).returncode:
        raise UserError(f"`{' '.join(words)}` failed: {_said(done)}", f"journalctl --user -u {NAME} may say more.")


def _run(*words: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(words, capture_output=True, text=True, timeout=SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess(words, 1, "", str(error))


def _said(done: subprocess.CompletedProcess[str]) -> str:
    return (done.stderr or done.stdout).strip().splitlines()[-1:][0] if (done.stderr or done.stdout).strip() else "?"

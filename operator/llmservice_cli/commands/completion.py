"""`llmservice completion`: what a shell has to read to complete commands, services and models."""

from __future__ import annotations

import argparse

SHELLS = {
    "bash": 'eval "$(llmservice completion bash)"   # in ~/.bashrc',
    "zsh": 'eval "$(llmservice completion zsh)"   # in ~/.zshrc, after compinit',
    "fish": "llmservice completion fish > ~/.config/fish/completions/llmservice.fish",
}


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments."""
    parser.add_argument("shell", choices=SHELLS, help="; ".join(SHELLS.values()))


def run(args: argparse.Namespace) -> int:
    """0."""
    from argcomplete.shell_integration import shellcode

    print(shellcode(["llmservice"], shell=args.shell))  # type: ignore[no-untyped-call, unused-ignore]
    return 0

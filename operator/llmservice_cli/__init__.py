"""The command line: up, plan, engines, chat, ps, logs, down, crds."""

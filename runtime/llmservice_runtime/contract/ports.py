"""Ports of one runtime replica. On one machine each replica gets free ports instead."""

DATA_PORT = 8000
"""Engine: OpenAI API and /metrics."""

SUPERVISOR_PORT = 8001
"""Supervisor: /livez, /readyz, /startupz, /status, /metrics."""

GATEWAY_PORT = 8080
"""Gateway: one URL in front of every service."""

OPERATOR_PORT = 8081
"""Operator: probes and metrics."""

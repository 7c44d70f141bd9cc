"""What every program agrees on: engines, ports, settings, metric names, failures. Imports the standard library only."""

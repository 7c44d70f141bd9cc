"""The supervisor: one engine child, probes, drain, failure record. Light: no model code."""

"""Metrics, diagnostics and tables."""

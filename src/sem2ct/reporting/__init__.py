"""Figures and the report, made only from files already written."""

"""Published tables, measured again: a recipe file names the runs, the evaluations and the published numbers."""

from sslfast.reproduce.reproduction import reproduce

__all__ = ["reproduce"]

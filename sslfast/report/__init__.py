"""The report: one self-contained HTML page per run."""

from sslfast.report.report import write_report

__all__ = ["write_report"]

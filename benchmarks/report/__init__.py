"""The output of benchmarks: tables, the record of a run, and a page that joins several runs."""

from benchmarks.report.output import machine, markdown, out_option, publish

__all__ = ["machine", "markdown", "out_option", "publish"]

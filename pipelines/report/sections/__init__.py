"""The sections of a report: one module a heading, with its tables and figures."""

"""Sluice for Python."""

from .errors import Error, JobFailed, Never, NoBroker, RequestFailed, RetryAfter, TimedOut

__version__ = "0.1.0"

__all__ = ["Error", "JobFailed", "Never", "NoBroker", "RequestFailed", "RetryAfter", "TimedOut"]

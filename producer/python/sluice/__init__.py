"""Sluice for Python: `Worker` works on jobs."""

from .errors import Error, JobFailed, Never, NoBroker, RequestFailed, RetryAfter, TimedOut
from .handlers import Task
from .node import Worker

__version__ = "0.1.0"

__all__ = [
    "Error",
    "JobFailed",
    "Never",
    "NoBroker",
    "RequestFailed",
    "RetryAfter",
    "Task",
    "TimedOut",
    "Worker",
]

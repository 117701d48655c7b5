"""Sluice for Python: submit jobs (`connect`) and work on them (`Worker`)."""

from .client import Client, Handle, connect
from .errors import (
    CannotStart,
    ClientClosed,
    Error,
    JobFailed,
    Never,
    NoBroker,
    RequestFailed,
    RetryAfter,
    SubmitFailed,
    TimedOut,
)
from .handlers import Task
from .jobs import JobView, LogChunk, SubmitResult, make_job
from .node import Worker

__version__ = "0.1.0"

__all__ = [
    "CannotStart",
    "Client",
    "ClientClosed",
    "Error",
    "Handle",
    "JobFailed",
    "JobView",
    "LogChunk",
    "Never",
    "NoBroker",
    "RequestFailed",
    "RetryAfter",
    "SubmitFailed",
    "SubmitResult",
    "Task",
    "TimedOut",
    "Worker",
    "connect",
    "make_job",
]

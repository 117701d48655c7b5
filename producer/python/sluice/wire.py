"""Bytes, ids and sockets: what producer and worker have in common. PROTOCOL.md is the text."""

from __future__ import annotations

import errno
import itertools
import json
import math
import os
import struct
import time
import uuid
from typing import Any, Callable, Iterable, Iterator, Mapping, Optional

import msgpack
import zmq

MSGPACK = "application/msgpack"
JSON = "application/json"
PROTOCOL_VERSION = 1
MESSAGE_BYTES_MAX = 8 << 20
PAYLOAD_BYTES_MAX = 1 << 20
RESULT_BYTES_MAX = 1 << 20
CHECKPOINT_BYTES_MAX = 4096
HELD_MAX = 16384

_monitors = itertools.count(1)


def pack(message: Mapping[str, Any]) -> bytes:
    return bytes(msgpack.packb(message, use_bin_type=True))


def largest_field(message: Mapping[str, Any]) -> str:
    return max(message, key=lambda name: len(msgpack.packb(message[name], use_bin_type=True)))


def unpack(frame: bytes) -> dict[str, Any]:
    """One msgpack map; raises ValueError for anything else."""
    try:
        message = msgpack.unpackb(frame, raw=False, strict_map_key=True)
    except Exception as error:  # msgpack raises half a dozen kinds
        raise ValueError(f"not msgpack: {error}") from error
    if not isinstance(message, dict):
        raise ValueError("not a map")
    return message


def encode_value(value: Any, content_type: str) -> bytes:
    """bytes go as they are; everything else by the content type (JSON, otherwise msgpack)."""
    if isinstance(value, (bytes, bytearray, memoryview)) and content_type != MSGPACK:
        return bytes(value)
    if content_type == JSON:
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
    if content_type == MSGPACK:
        return bytes(msgpack.packb(value, use_bin_type=True))
    raise TypeError(f"a payload of type {content_type} must be bytes")


def decode_value(data: bytes, content_type: str) -> Any:
    """The value, or the bytes themselves when they are not of that type."""
    if not data:
        return None
    try:
        if content_type == JSON:
            return json.loads(data)
        if content_type == MSGPACK:
            return msgpack.unpackb(data, raw=False, strict_map_key=False)
    except Exception:
        return data
    return data


def new_id() -> str:
    """A UUID version 7: the time in front, so ids sort by when they were made."""
    wall_ms = time.time_ns() // 1_000_000
    number = (wall_ms << 80) | int.from_bytes(os.urandom(10), "big")
    number = number & ~(0xF << 76) | (7 << 76)
    number = number & ~(0x3 << 62) | (2 << 62)
    return str(uuid.UUID(int=number))


def text_of(value: Any) -> str:
    """Its text, as UTF-8 can carry it, whatever it is: `str()` of a stranger's object may raise."""
    try:
        return str(value).encode("utf-8", "replace").decode()
    except Exception:
        return f"a {type(value).__name__} that has no text"


def clean_text(text: str, bytes_max: int) -> str:
    # No character has less than one byte: what is cut first would be cut anyway.
    text = "".join(c if c in "\n\t" or c.isprintable() else "?" for c in text[:bytes_max])
    return text.encode("utf-8", "replace")[:bytes_max].decode("utf-8", "ignore")


def clean_code(code: str) -> str:
    clean = "".join(c if c.isascii() and (c.isalnum() or c in "_.-") else "_" for c in code)
    return clean[:64] or "failed"


def host_and_port(address: Optional[str], port: int) -> str:
    """An endpoint from `tcp://host:port`, `host:port`, `host`, or nothing (loopback)."""
    text = address or f"tcp://127.0.0.1:{port}"
    if "://" not in text:
        text = "tcp://" + text
    scheme, rest = text.split("://", 1)
    if scheme == "tcp" and ":" not in rest.rsplit("]", 1)[-1]:
        text = f"{text}:{port}"
    return text


class Dealer:
    """A DEALER with the settings every peer has, and its monitor. One thread only.

    libzmq never comes back by itself after a handshake that failed, nor after it ended a connection
    over which the peer broke the rules (a message over the bound): `reopen` makes a new socket. For
    the second, `reopen_at` (time.monotonic()) says when: a second after the connection ended without
    a word that libzmq tries again.
    """

    UP, DOWN, REFUSED, NOBODY, SILENT = "up", "down", "refused", "nobody", "silent"

    def __init__(self, context: "zmq.Context[Any]", address: str, high_water_mark: int) -> None:
        self._context = context
        self.address = address
        self._high_water_mark = high_water_mark
        self._is_refused = False
        self._open()

    def _open(self) -> None:
        self.is_up = self._is_accepted = False
        self.reopen_at = math.inf
        self.socket = self._context.socket(zmq.DEALER)
        for option, value in (
            (zmq.MAXMSGSIZE, MESSAGE_BYTES_MAX + 65536),
            (zmq.RCVHWM, self._high_water_mark),
            (zmq.SNDHWM, self._high_water_mark),
            (zmq.LINGER, 0),
            (zmq.IMMEDIATE, 1),
            (zmq.RECONNECT_IVL, 100),
            (zmq.RECONNECT_IVL_MAX, 1000),
            (zmq.HEARTBEAT_IVL, 2000),
            (zmq.HEARTBEAT_TIMEOUT, 6000),
            (zmq.HEARTBEAT_TTL, 10000),
            (zmq.HANDSHAKE_IVL, 3000),
            (zmq.TCP_KEEPALIVE, 1),
        ):
            self.socket.setsockopt(option, value)
        self.monitor = self.socket.get_monitor_socket(
            zmq.EVENT_CONNECTED
            | zmq.EVENT_CLOSED
            | zmq.EVENT_HANDSHAKE_SUCCEEDED
            | zmq.EVENT_DISCONNECTED
            | zmq.EVENT_CONNECT_RETRIED
            | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
            | zmq.EVENT_HANDSHAKE_FAILED_AUTH
            | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL,
            f"inproc://sluice-monitor-{next(_monitors)}",
        )
        self.socket.connect(self.address)

    def reopen(self) -> None:
        self.close()
        self._open()

    def close(self, linger_ms: int = 0) -> None:
        self.is_up = False
        self.socket.disable_monitor()
        self.monitor.close(0)
        self.socket.close(linger_ms)

    def send(self, frame: bytes) -> bool:
        """False when it cannot go now."""
        try:
            self.socket.send(frame, zmq.DONTWAIT)
        except zmq.Again:
            return False
        return True

    @property
    def is_silent(self) -> bool:
        """The connection was accepted, and nothing has come over it."""
        return self._is_accepted and not self.is_up and not self._is_refused

    def changes(self) -> Iterator[str]:
        """What happened to the connection since the last look."""
        while True:
            try:
                parts = self.monitor.recv_multipart(zmq.DONTWAIT)
            except zmq.Again:
                return
            event, value = struct.unpack_from("=HI", parts[0])
            if event in (zmq.EVENT_CONNECTED, zmq.EVENT_CLOSED):
                self._is_accepted = event == zmq.EVENT_CONNECTED
                self._is_refused = self._is_refused and self._is_accepted
            elif event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                self.is_up = True
                self._is_refused = False
                self.reopen_at = math.inf
                yield self.UP
            elif event == zmq.EVENT_CONNECT_RETRIED:
                self.reopen_at = math.inf
                if not self._is_accepted:
                    yield self.NOBODY
            elif event == zmq.EVENT_DISCONNECTED:
                self.is_up = False
                self.reopen_at = time.monotonic() + 1
                yield self.DOWN
            elif event == zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL and value == errno.EAGAIN:
                yield self.SILENT  # its time is over, and not a byte came; libzmq tries again
            else:
                self.is_up = False
                self._is_refused = True
                yield self.REFUSED

    def messages(
        self, ignored: Callable[[str], None] = lambda why: None
    ) -> Iterator[dict[str, Any]]:
        """Messages at hand; what is not one frame with one map is dropped, and `ignored` told why."""
        while True:
            try:
                frames = self.socket.recv_multipart(zmq.DONTWAIT)
            except zmq.Again:
                return
            if len(frames) != 1:
                ignored("more than one frame")
                continue
            try:
                message = unpack(frames[0])
            except ValueError as error:
                ignored(str(error))
                continue
            yield message


def batches(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    iterator = iter(items)
    while batch := list(itertools.islice(iterator, size)):
        yield batch

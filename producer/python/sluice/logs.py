"""What an attempt logged and has not left yet: bounded, the oldest goes, and a line says how much."""

from __future__ import annotations

import threading
from typing import Any, Union

from . import wire

BYTES_MAX = 256 << 10
CHUNK_BYTES_MAX = 16 << 10
_NEAR_BYTES = 4096  # a line that begins so near is begun with


def line_of(text: Any) -> bytes:
    """What a handler logs, as bytes; any value has a text, and a line an end."""
    data = text if isinstance(text, bytes) else wire.text_of(text).encode("utf-8", "replace")
    return data if data.endswith(b"\n") else data + b"\n"


class LogBuffer:
    """The same rules as the C++ worker's; a thread may add while another one takes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._text = bytearray()
        self._missing = 0
        self._is_within_line = False

    def __len__(self) -> int:
        return len(self._text)

    @property
    def is_empty(self) -> bool:
        return not self._text and not self._missing

    def add(self, data: Union[bytes, bytearray], bytes_max: int = BYTES_MAX) -> bool:
        """True when there was nothing before."""
        with self._lock:
            was_empty = self.is_empty
            self._text += data
            self._cut(bytes_max)
            return was_empty

    def cut(self, bytes_max: int) -> None:
        with self._lock:
            self._cut(bytes_max)

    def _cut(self, bytes_max: int) -> None:
        if len(self._text) <= bytes_max:
            return
        begin = len(self._text) - bytes_max
        newline = self._text.find(b"\n", begin - 1, begin + _NEAR_BYTES)
        begin = newline + 1 if 0 <= newline < len(self._text) - 1 else begin
        self._missing += begin
        del self._text[:begin]

    def take(self, bytes_max: int = CHUNK_BYTES_MAX) -> bytes:
        """The next piece: whole lines, or at least whole characters, where there is more."""
        with self._lock:
            piece = b""
            if self._missing:
                begin = "\n" if self._is_within_line else ""
                piece = f"{begin}[sluice: {self._missing} bytes are missing here]\n".encode()
                self._missing = 0
            end = _good_end(self._text, bytes_max - len(piece))
            piece += self._text[:end]
            del self._text[:end]
            if piece:
                self._is_within_line = not piece.endswith(b"\n")
            return piece


def _good_end(text: bytearray, bytes_max: int) -> int:
    if len(text) <= bytes_max:
        return len(text)
    newline = text.rfind(b"\n", bytes_max // 2, bytes_max)
    if newline >= 0:
        return newline + 1
    for end in range(bytes_max, bytes_max - 3, -1):
        if text[end] & 0xC0 != 0x80:
            return end
    return bytes_max

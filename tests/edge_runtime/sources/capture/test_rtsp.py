"""A live source on RTSP: a small server speaks RTSP 1.0 (RFC 2326) and sends JPEG over RTP (RFC 2435) through TCP.

It is no camera, but FFmpeg inside OpenCV plays it through the same code as a camera's.
"""

import contextlib
import re
import socket
import struct
import threading
import time

import pytest

from edge_runtime.results import SourceState, StateChange
from edge_runtime.sources.base import CaptureOptions
from edge_runtime.sources.opening import open_source
from edge_runtime.testing.cameras import grey_jpeg

pytestmark = pytest.mark.slow  # FFmpeg looks at a stream for seconds before it gives a frame

PATIENCE_S = 60.0
SIZE_WH = (64, 48)
SDP = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=test\r\nt=0 0\r\nm=video 0 RTP/AVP 26\r\na=control:track\r\n"
PACKET_BYTES = 1200
JPEG_TYPE_420, TABLES_FOLLOW = 1, 255


def rtp_packets(jpeg, sequence, timestamp):
    """RFC 2435: the image without its headers, which the receiver makes from type, size and quantization tables."""
    tables, at = b"", 2
    while jpeg[at + 1] != 0xDA:
        length = int.from_bytes(jpeg[at + 2 : at + 4], "big")
        if jpeg[at + 1] == 0xDB:
            segment = jpeg[at + 4 : at + 2 + length]
            tables += b"".join(segment[start + 1 : start + 65] for start in range(0, len(segment), 65))
        at += 2 + length
    scan = jpeg[at + 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big") : -2]
    for offset in range(0, len(scan), PACKET_BYTES):
        piece = scan[offset : offset + PACKET_BYTES]
        last = offset + PACKET_BYTES >= len(scan)
        head = struct.pack(">BBHII", 0x80, 26 | last << 7, sequence & 0xFFFF, timestamp & 0xFFFFFFFF, 1)
        kind = struct.pack(">IBBBB", offset, JPEG_TYPE_420, TABLES_FOLLOW, SIZE_WH[0] // 8, SIZE_WH[1] // 8)
        yield head + kind + (struct.pack(">HH", 0, len(tables)) + tables if offset == 0 else b"") + piece
        sequence += 1


class RtspServer:
    """Plays grey frames, 25 a second, until ``frames`` of this connection were sent; then it closes or is silent."""

    def __init__(self, frames, *, silent_at_end=False):
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._socket.getsockname()[1]}/cam"
        self._frames, self._silent_at_end = frames, silent_at_end
        self.transports = []
        self._connections = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        self._socket.close()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                client = self._socket.accept()[0]
                threading.Thread(target=self._serve, args=(client, self._connections), daemon=True).start()
                self._connections += 1

    def _serve(self, client, connection):
        held = b""
        with client, contextlib.suppress(OSError):
            while data := client.recv(4096):
                held += data
                while b"\r\n\r\n" in held:
                    request, _, held = held.partition(b"\r\n\r\n")
                    method = request.split(b" ", 1)[0].decode()
                    client.sendall(self._answer(method, request.decode()))
                    if method == "PLAY":
                        self._play(client, self._frames(connection))
                        if not self._silent_at_end:
                            return

    def _answer(self, method, request):
        found = re.search(r"CSeq: *(\d+)", request)
        head = f"RTSP/1.0 200 OK\r\nCSeq: {found[1] if found else 0}\r\n"
        if method == "OPTIONS":
            return f"{head}Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n\r\n".encode()
        if method == "DESCRIBE":
            return f"{head}Content-Type: application/sdp\r\nContent-Length: {len(SDP)}\r\n\r\n{SDP}".encode()
        if method == "SETUP":
            self.transports.append(request.partition("Transport: ")[2].partition("\r\n")[0])
            return f"{head}Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 1\r\n\r\n".encode()
        return f"{head}Session: 1\r\n\r\n".encode()

    def _play(self, client, frames):
        sequence = 0
        for number in range(frames):
            for packet in rtp_packets(grey_jpeg(40 + number % 200, SIZE_WH), sequence, number * 3600):
                client.sendall(b"$\0" + struct.pack(">H", len(packet)) + packet)
                sequence += 1
            time.sleep(0.04)


def test_rtsp_is_played_over_tcp_and_opened_again_when_it_ends():
    server = RtspServer(lambda connection: 10_000 if connection else 60)
    source = open_source(f"rtsp://me:secret@{server.address}", CaptureOptions(open_timeout_s=PATIENCE_S))
    assert source.name == f"rtsp://me:***@{server.address}"
    states = []
    with contextlib.closing(server), source:
        for item in source.frames(time.perf_counter() + PATIENCE_S):
            if isinstance(item, StateChange):
                states.append((item.state, item.reason))
                continue
            assert item.image_hwc_rgb_u8.shape == (SIZE_WH[1], SIZE_WH[0], 3)
            assert item.image_hwc_rgb_u8.std() < 3
            if len(states) == 3:
                break
    assert states == [
        (SourceState.CONNECTED, None),
        (SourceState.RECONNECTING, "the stream ended or went silent"),
        (SourceState.CONNECTED, None),
    ]
    assert all("TCP" in transport for transport in server.transports)


def test_rtsp_that_hangs_is_stalled():
    server = RtspServer(lambda _: 40, silent_at_end=True)
    options = CaptureOptions(open_timeout_s=PATIENCE_S, stall_timeout_s=2)
    source = open_source(f"rtsp://{server.address}", options)
    with contextlib.closing(server), source:
        given = source.frames(time.perf_counter() + PATIENCE_S)
        assert next(given).state is SourceState.CONNECTED
        changes = (item.state for item in given if isinstance(item, StateChange))
        assert [next(changes), next(changes)] == [SourceState.STALLED, SourceState.RECONNECTING]

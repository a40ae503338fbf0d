"""The least RTMP a publisher needs, so that the moment each picture is sent is known: handshake, four commands, FLV tags at their time."""
import socket
import struct
import threading
import time
from collections import namedtuple

AUDIO, VIDEO, DATA = 8, 9, 18
CHUNK = 4096
Tag = namedtuple("Tag", "kind time payload")


def video_and_audio(flv):
    """The media tags of an FLV file in file order."""
    at, tags = 13, []
    while at + 11 <= len(flv):
        kind = flv[at] & 0x1F
        size = int.from_bytes(flv[at + 1:at + 4], "big")
        milliseconds = int.from_bytes(flv[at + 4:at + 7], "big") | flv[at + 7] << 24
        if kind in (AUDIO, VIDEO):
            tags.append(Tag(kind, milliseconds, flv[at + 11:at + 11 + size]))
        at += 11 + size + 4
    return tags


def is_header(tag):
    """A decoder configuration, which comes once."""
    return tag.payload[1:2] == b"\0" and (tag.payload[0] & 0x0F == 7 if tag.kind == VIDEO else tag.payload[0] >> 4 == 10)


# nginx-rtmp shifts all times in its segments by this many ticks (NGX_RTMP_HLS_DELAY).
NGINX_DELAY = 63000


def ts_video_times(data):
    """The milliseconds at which the publisher sent the pictures of an MPEG-TS segment of nginx-rtmp (decode times)."""
    times = []
    for at in range(0, len(data) - 187, 188):
        packet = data[at:at + 188]
        if packet[0] != 0x47 or not packet[1] & 0x40:
            continue
        start = 4 + (1 + packet[4] if packet[3] & 0x20 else 0)
        pes = packet[start:]
        if pes[:3] != b"\0\0\1" or not 0xE0 <= pes[3] <= 0xEF or not pes[7] & 0x80:
            continue
        field = pes[14:19] if pes[7] & 0x40 else pes[9:14]
        ticks = (field[0] >> 1 & 7) << 30 | field[1] << 22 | field[2] >> 1 << 15 | field[3] << 7 | field[4] >> 1
        times.append(round((ticks - NGINX_DELAY) / 90))
    return times


def amf(value):
    if isinstance(value, bool):
        return b"\x01" + bytes([value])
    if isinstance(value, (int, float)):
        return b"\x00" + struct.pack(">d", value)
    if isinstance(value, str):
        return b"\x02" + struct.pack(">H", len(value)) + value.encode()
    if isinstance(value, dict):
        return b"\x03" + b"".join(struct.pack(">H", len(key)) + key.encode() + amf(item) for key, item in value.items()) + b"\0\0\x09"
    return b"\x05"


def message(channel, kind, stream, milliseconds, payload):
    """A message in chunks of 4096 bytes, the size that OBS uses."""
    extended = struct.pack(">I", milliseconds) if milliseconds >= 0xFFFFFF else b""
    head = bytes([channel]) + min(milliseconds, 0xFFFFFF).to_bytes(3, "big") + len(payload).to_bytes(3, "big") + bytes([kind]) + struct.pack("<I", stream) + extended
    size = CHUNK if kind != 1 else 128
    out = [head, payload[:size]]
    for at in range(size, len(payload), size):
        out += [bytes([0xC0 | channel]), extended, payload[at:at + size]]
    return b"".join(out)


def chunks(tag, milliseconds):
    """The bytes of a media tag on the wire."""
    return message(6 if tag.kind == VIDEO else 4, tag.kind, 1, milliseconds, tag.payload)


class Publisher:
    def __init__(self, host, port, app, name, drains=True):
        self.socket = socket.create_connection((host, port), timeout=10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.sendall(b"\x03" + bytes(1536))
        answer = self._read(1 + 1536 + 1536)
        self.socket.sendall(answer[1:1537])
        self._message(2, 1, 0, 0, struct.pack(">I", CHUNK))
        self._command("connect", 1, {"app": app, "type": "nonprivate", "tcUrl": f"rtmp://{host}:{port}/{app}"})
        self._await(b"_result")
        self._command("createStream", 2, None)
        self._await(b"_result")
        self._command("publish", 3, None, name, "live", stream=1)
        self._await(b"NetStream.Publish.Start")
        # What the server says from here on (acknowledgements) is read and forgotten.
        if drains:
            threading.Thread(target=self._drain, daemon=True).start()

    def _read(self, count):
        data = b""
        while len(data) < count:
            piece = self.socket.recv(count - len(data))
            if not piece:
                raise ConnectionError("the server closed the connection")
            data += piece
        return data

    def _await(self, word):
        """The server's answers are short: looking for the word in the bytes saves a de-chunker."""
        seen = b""
        while word not in seen:
            piece = self.socket.recv(65536)
            if not piece:
                raise ConnectionError(f"the server closed the connection before {word.decode()}: {seen!r}")
            seen += piece

    def _drain(self):
        try:
            while self.socket.recv(65536):
                pass
        except OSError:
            pass

    def _command(self, name, number, *arguments, stream=0):
        self._message(3, 20, stream, 0, amf(name) + amf(number) + b"".join(map(amf, arguments)))

    def _message(self, channel, kind, stream, milliseconds, payload):
        self.socket.sendall(message(channel, kind, stream, milliseconds, payload))

    def send_tag(self, tag):
        self.socket.sendall(chunks(tag, tag.time))

    def send(self, tags, seconds, on_sent):
        """Sends tags at their time; calls on_sent(tag, time) right before each one's bytes go."""
        start = time.monotonic()
        for tag in tags:
            if tag.time > seconds * 1000:
                break
            time.sleep(max(0, start + tag.time / 1000 - time.monotonic()))
            on_sent(tag, time.monotonic())
            self.send_tag(tag)

    def close(self):
        self._command("deleteStream", 4, None, 1, stream=0)
        self.socket.close()

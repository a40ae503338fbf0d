"""Who comes to a server that is soaked: viewers who follow, viewers who vanish, and peers who send junk."""
import os
import random
import re
import socket
import ssl
import struct
import threading
import time
import urllib.request

import h2.config
import h2.connection
import h2.events

# The server makes its own certificate.
TLS = ssl.create_default_context()
TLS.check_hostname = False
TLS.verify_mode = ssl.CERT_NONE
TLS.set_alpn_protocols(["h2"])


class Playlist:
    """What a low-latency player looks at in a media playlist."""

    def __init__(self, text):
        number = lambda tag: int(found[1]) if (found := re.search(rf"^#{tag}:(\d+)", text, re.M)) else 0
        self.first = number("EXT-X-MEDIA-SEQUENCE")
        self.discontinuity = number("EXT-X-DISCONTINUITY-SEQUENCE") + text.count("#EXT-X-DISCONTINUITY\n")
        self.open = self.first + text.count("#EXTINF:")
        behind = text[text.rfind("#EXTINF:"):]
        self.parts = behind.count("#EXT-X-PART:")
        hint = re.search(r'#EXT-X-PRELOAD-HINT:TYPE=PART,URI="([^"]+)"', text)
        self.hint = hint and hint[1]
        self.ended = "#EXT-X-ENDLIST" in text
        lines = text.splitlines()
        segments = [at for at, line in enumerate(lines) if line.startswith("#EXTINF:")]
        # The newest thing that is media: gaps are promises of nothing.
        self.newest = (self.open, self.parts) if self.parts else next(
            ((self.first + count, 0) for count, at in reversed(list(enumerate(segments))) if lines[at - 1] != "#EXT-X-GAP"), None)


class Viewer(threading.Thread):
    """Follows every rendition of a stream with blocking reloads and hinted parts, on one HTTP/2 connection over TLS."""

    def __init__(self, address, path):
        super().__init__(daemon=True)
        self.host, port = address.rsplit(":", 1)
        self.port, self.path = int(port), path
        self.waiting, self.seen, self.hinted = {}, {}, {}
        self.wrong, self.requests, self.media_bytes = [], 0, 0
        self.changed, self.new_media = {}, {}
        self.longest_still = 0.0
        self.stopped = False

    def run(self):
        while not self.stopped:
            try:
                self.follow()
            except (OSError, ConnectionError) as error:
                self.fault(f"the connection broke: {error!r}")
                time.sleep(1)

    def fault(self, what):
        if len(self.wrong) < 100:
            self.wrong.append(f"{time.strftime('%H:%M:%S')} {what}")

    def media_since(self):
        """When the rendition that is furthest behind last had new media."""
        return min(self.new_media.values(), default=0.0)

    def still(self):
        """Seconds since each playlist had anything new, gaps included."""
        return max((time.monotonic() - at for at in self.changed.values()), default=0.0)

    def follow(self):
        raw = socket.create_connection((self.host, self.port), timeout=20)
        with TLS.wrap_socket(raw, server_hostname=self.host) as self.socket:
            self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
            self.h2.initiate_connection()
            self.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 1 << 24})
            self.h2.increment_flow_control_window(1 << 24)
            self.waiting.clear()
            self.get(f"{self.path}/index.m3u8", self.renditions)
            while not self.stopped:
                self.socket.sendall(self.h2.data_to_send())
                # Blocked requests are answered after three target durations, 12 s, at the latest.
                data = self.socket.recv(1 << 17)
                if not data:
                    raise ConnectionError("the server closed it")
                for event in self.h2.receive_data(data):
                    self.take(event)

    def get(self, path, then):
        stream = self.h2.get_next_available_stream_id()
        self.h2.send_headers(stream, [(":method", "GET"), (":scheme", "https"), (":authority", f"{self.host}:{self.port}"), (":path", path)], end_stream=True)
        self.waiting[stream] = [path, then, 0, []]
        self.requests += 1

    def take(self, event):
        if isinstance(event, h2.events.ConnectionTerminated):
            raise ConnectionError(f"GOAWAY {event.error_code}")
        request = self.waiting.get(getattr(event, "stream_id", None))
        if request is None:
            return
        path, then, status, body = request
        if isinstance(event, h2.events.ResponseReceived):
            request[2] = int(dict(event.headers)[":status" if ":status" in dict(event.headers) else b":status"])
        elif isinstance(event, h2.events.DataReceived):
            body.append(event.data)
            self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.StreamEnded):
            del self.waiting[event.stream_id]
            then(path, status, b"".join(body))
        elif isinstance(event, h2.events.StreamReset):
            del self.waiting[event.stream_id]
            self.fault(f"{path}: reset {event.error_code}")
            then(path, 0, b"")

    def renditions(self, path, status, body):
        if status != 200:
            self.fault(f"{path}: {status}")
            time.sleep(1)
            return self.get(path, self.renditions)
        for uri in sorted(set(re.findall(r'URI="([^"]+m3u8)"', body.decode()) + re.findall(r"^[^#\n]+m3u8", body.decode(), re.M))):
            name = uri.split("/")[-2]
            self.changed.setdefault(name, time.monotonic())
            self.new_media.setdefault(name, time.monotonic())
            self.get(f"{self.path}/{uri}", self.playlist)

    def playlist(self, path, status, body):
        bare = path.split("?")[0]
        if status != 200:
            self.fault(f"{path}: {status}")
            time.sleep(0.5)
            return self.get(bare, self.playlist)
        name, now, old = bare.split("/")[-2], time.monotonic(), self.seen.get(bare)
        new = self.seen[bare] = Playlist(body.decode())
        if old and (new.first < old.first or new.open < old.open or new.discontinuity < old.discontinuity):
            self.fault(f"{path}: numbers went back, from {vars(old)} to {vars(new)}")
        if not old or (new.open, new.parts) != (old.open, old.parts):
            self.longest_still = max(self.longest_still, now - self.changed[name])
            self.changed[name] = now
        if new.newest and (not old or not old.newest or new.newest > old.newest):
            self.new_media[name] = now
        if new.ended:
            return self.fault(f"{path}: the stream has ended")
        if new.hint and self.hinted.get(name) != new.hint:
            self.hinted[name] = new.hint
            self.get(bare.rsplit("/", 1)[0] + "/" + new.hint, self.part)
        self.get(f"{bare}?_HLS_msn={new.open}&_HLS_part={new.parts}", self.playlist)

    def part(self, path, status, body):
        self.media_bytes += len(body)
        # A hinted part that never comes is 404 (RFC 8216bis 6.2.6): the publisher may have gone.
        if status not in (200, 404):
            self.fault(f"{path}: {status}")


def vanish(address, path, count):
    """Viewers who ask for what is not there yet, and are gone before it is."""
    host, port = address.rsplit(":", 1)
    with urllib.request.urlopen(f"http://{address}{path}/index.m3u8", timeout=10) as response:
        media = next(line for line in response.read().decode().splitlines() if line and line[0] != "#")
    with urllib.request.urlopen(f"http://{address}{path}/{media}", timeout=10) as response:
        now = Playlist(response.read().decode())
    lines = f"GET {path}/{media}?_HLS_msn={now.open + 1}&_HLS_part=0 HTTP/1.1\r\nhost: soak\r\n\r\n".encode()
    for number in range(count):
        peer = socket.create_connection((host, int(port)), timeout=10)
        peer.sendall(lines[:random.randrange(1, len(lines))] if number % 4 == 0 else lines)
        if number % 2:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.close()


def junk(addresses, count):
    """Connections that speak no protocol, half of one, or nothing. Some stay until the server has enough of them."""
    starts = (b"", b"\x03" + bytes(1536), b"\x03", b"GET / HTTP/1.1\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\x16\x03\x01\x02\x00\x01", b"POST /api/v1/streams HTTP/1.1\r\ncontent-length: 99999999999\r\n\r\n")
    open_ones = []
    for number in range(count):
        host, port = addresses[number % len(addresses)].rsplit(":", 1)
        try:
            peer = socket.create_connection((host, int(port)), timeout=10)
            peer.sendall(random.choice(starts) + os.urandom(random.randrange(2000)))
        except OSError:
            continue
        open_ones.append(peer)
        time.sleep(0.01)
    time.sleep(1)
    for peer in open_ones:
        peer.close()

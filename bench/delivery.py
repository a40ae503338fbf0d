"""What viewers cost, and how fast they are answered."""
import gzip
import re
import select
import socket
import statistics
import subprocess
import time
from urllib.parse import urljoin

import rtmp
from ingest import Publishers, next_query, parse_parts
from servers import Nginx, Rillcast, fetch, media, wait_for


class Pair:
    """Both servers with the same bytes: Rillcast from a live stream, nginx from files that are copies of them."""

    def __enter__(self):
        self.rillcast, self.nginx = Rillcast().__enter__(), Nginx().__enter__()
        # Two seconds of this are 500 KiB.
        self.publisher = Publishers(self.rillcast, 1, 3600, media(2050), "probe")
        self.video, self.audio = self.rillcast.playlists("probe")
        time.sleep(20)
        return self

    def __exit__(self, *_):
        self.publisher.__exit__()
        self.nginx.__exit__()
        self.rillcast.__exit__()

    def copy(self, path, name):
        status, body = fetch(self.rillcast.http_port, path)
        if status != 200:
            raise SystemExit(f"bench: {path} answers {status}")
        (self.nginx.files / name).write_bytes(body)
        return len(body)

    def newest_segment(self, playlist):
        """The newest complete one: it will be kept for longer than a measurement takes."""
        text = fetch(self.rillcast.http_port, playlist)[1].decode()
        return urljoin(playlist, re.findall(r"^[^#\s].*\.m4s$", text, re.M)[-1])

    def targets(self, what, round_number):
        """(path at Rillcast, path at nginx, bytes)."""
        path = {"playlist": lambda: self.video, "segment": lambda: self.newest_segment(self.video), "audio": lambda: self.newest_segment(self.audio)}[what]()
        # A new name each time: nginx's cache of open files must not hold what was there before.
        name = f"{what}-{round_number}.{'m3u8' if what == 'playlist' else 'm4s'}"
        return path, f"/{name}", self.copy(path, name)


def wrk(server, path, connections, seconds):
    """Requests answered in a second of the server's processor time, and the latency (p50, p99) in milliseconds."""
    url = f"http://127.0.0.1:{server.http_port}{path}"
    before = server.cpu_seconds()
    text = subprocess.run(["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", url], check=True, capture_output=True, text=True).stdout
    used = server.cpu_seconds() - before
    if "Non-2xx" in text or "Socket errors" in text:
        raise SystemExit(f"bench: {server.name} failed under wrk:\n{text}")
    requests = int(re.search(r"(\d+) requests in", text)[1])
    unit = {"us": 0.001, "ms": 1.0, "s": 1000.0}
    percentile = {int(found[1]): float(found[2]) * unit[found[3]] for found in re.finditer(r"(50|99)%\s+([\d.]+)(us|ms|s)", text)}
    return requests / used, (percentile[50], percentile[99])


def alone(kind, seconds, segment=None):
    """Latency (p50, p99) in milliseconds of a segment on one keep-alive connection, while the server serves a publisher too and nothing else runs on its
    core; and the segment. nginx is given the one that Rillcast served."""
    with kind() as server, Publishers(server, 1, 3600, media(2050), "probe"):
        if kind is Rillcast:
            video, _ = server.playlists("probe")
            time.sleep(12)
            path = re.findall(r"^[^#\s].*\.m4s$", fetch(server.http_port, video)[1].decode(), re.M)[-1]
            path = urljoin(video, path)
            segment = fetch(server.http_port, path)[1]
        else:
            path = "/segment.m4s"
            (server.files / path[1:]).write_bytes(segment)
            wait_for("the stream", 20, lambda: server.live("probe"))
            time.sleep(12)
        _, latency = wrk(server, path, 1, seconds)
        return latency, segment


def h2load(server, path, connections, seconds, at_once=1):
    """The same over HTTP/2 and TLS 1.3, without the latency, with so many requests under way at once on each connection."""
    url = f"https://127.0.0.1:{server.https_port}{path}"
    before = server.cpu_seconds()
    text = subprocess.run(["h2load", "-t1", f"-c{connections}", f"-m{at_once}", "-D", str(seconds), url], check=True, capture_output=True, text=True).stdout
    used = server.cpu_seconds() - before
    done, failed = (int(re.search(rf"(\d+) {word}", text)[1]) for word in ("succeeded", "failed"))
    if failed or "TLSv1.3" not in text or "Application protocol: h2" not in text:
        raise SystemExit(f"bench: {server.name} failed under h2load:\n{text}")
    return done / used


def first_bytes_of(poll, expected):
    """When each of these descriptors had something to read. Between the first and the last it looks without sleeping: a thousand machines would not
    have to be woken one after the other by the server."""
    arrived, end = [], time.monotonic() + 5
    while expected:
        events = poll.poll(0 if arrived else 5)
        now = time.monotonic()
        for descriptor, _ in events:
            if descriptor in expected:
                expected.remove(descriptor)
                arrived.append(now)
        if now > end:
            raise SystemExit("bench: waiting viewers were not answered in 5 s")
    return arrived


def read_answer(viewer):
    data = b""
    while True:
        data += viewer.recv(1 << 18)
        head, found, body = data.partition(b"\r\n\r\n")
        if found and len(body) >= int(re.search(rb"content-length: (\d+)", head, re.I)[1]):
            return gzip.decompress(body).decode()


def waiting(count, seconds):
    """Milliseconds from the last byte of the access unit that makes a part's end known to the first byte at each of `count` waiting viewers."""
    source = media(2500)
    tags = [tag for tag in rtmp.video_and_audio(source.read_bytes()) if not rtmp.is_header(tag)]
    with Rillcast() as server, Publishers(server, 1, seconds + 8, source, "probe") as publisher:
        path, _ = server.playlists("probe")
        rounds, bodies = [], {}
        poll, viewers = select.epoll(), {}
        for _ in range(count):
            viewer = socket.create_connection(("127.0.0.1", server.http_port))
            viewer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            viewers[viewer.fileno()] = viewer
            # Told once of each answer, so that answers can be timed first and read later: reading is the viewers' time, not the server's.
            poll.register(viewer.fileno(), select.EPOLLIN | select.EPOLLET)
        text = fetch(server.http_port, path)[1].decode()
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            request = f"GET {path}{next_query(text)} HTTP/1.1\r\nHost: bench\r\nAccept-Encoding: gzip\r\n\r\n".encode()
            for viewer in viewers.values():
                viewer.sendall(request)
            arrived = first_bytes_of(poll, set(viewers))
            text = [read_answer(viewer) for viewer in viewers.values()][-1]
            part = urljoin(path, parse_parts(text)[-1])
            rounds.append((part, arrived))
            if part not in bodies:
                bodies[part] = fetch(server.http_port, part)[1]
        sent = publisher.end()["sent"]
    pictures = [(at, tags[index].payload[5:]) for at, kind, index in sent if kind == rtmp.VIDEO]
    delays = []
    for part, arrived in rounds[3:]:
        last = next((number for number, (_, payload) in enumerate(pictures) if bodies[part].endswith(payload)), None)
        if last is None or last + 1 >= len(pictures):
            continue
        # The next picture says how long this one, the part's last, is shown.
        cause = pictures[last + 1][0]
        delays += [1000 * (at - cause) for at in arrived]
    delays.sort()
    if len(delays) < count * seconds * 2:
        raise SystemExit(f"bench: only {len(delays)} answers to {count} waiting viewers could be judged")
    return statistics.median(delays), delays[int(0.99 * len(delays))]

"""What publishers cost, and how soon what they send can be fetched."""
import http.client
import json
import os
import re
import statistics
import subprocess
import sys
import threading
import time
from urllib.parse import urljoin

import rtmp
from servers import LOAD_CORE, ROOT, Nginx, Rillcast, fetch, media, wait_for

# Rillcast keeps what it lists and as long behind it: 46 s of media. Both servers are judged when that is full, which is how they spend their days.
FULL_S = 52


class Publishers:
    """Publishers in a process of their own; `end` gives what they say at the end."""

    def __init__(self, server, count, seconds, source, *name):
        self.count = count
        self.process = subprocess.Popen([sys.executable, ROOT / "bench/publishers.py", *map(str, (server.rtmp_port, count, seconds, source)), *name],
                                        stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
        if self.process.stdout.readline() != "ready\n":
            raise SystemExit(f"bench: {server.name} did not accept {count} publishers")

    def end(self):
        return json.loads(self.process.stdout.readline())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


def all_live(server, count):
    wait_for(f"{count} streams at {server.name}", 60, lambda: all(server.live(f"s{number}") for number in range(count)), pause=0.5)


def cpu(kind, count, seconds, warm_up=FULL_S):
    """Processor time of the server for one publisher, milliseconds a second; and what memory it holds then."""
    with kind() as server, Publishers(server, count, 600, media(2500)):
        all_live(server, count)
        time.sleep(warm_up)
        before, began = server.cpu_seconds(), time.monotonic()
        time.sleep(seconds)
        used, took = server.cpu_seconds() - before, time.monotonic() - began
        return 1000 * used / took / count


def memory(count):
    """(KiB held for one publisher beyond the idle server, KiB of media kept for it), when the window and what stands behind it are full."""
    with Rillcast() as server:
        time.sleep(1)
        idle = server.memory_bytes()
        with Publishers(server, count, 600, media(2500)):
            all_live(server, count)
            time.sleep(FULL_S)
            kept = server.metric("rillcast_media_bytes")
            return (server.memory_bytes() - idle) / count / 1024, kept / count / 1024


def idle():
    """(MiB resident, milliseconds from start to listening)."""
    with Rillcast() as server:
        time.sleep(1)
        return server.memory_bytes() / 2**20, server.start_ms


def late_parts(server):
    """(Parts that were late so far, all parts), both from one look. nginx has no parts."""
    if not isinstance(server, Rillcast):
        return 0, 0
    text = fetch(server.admin_port, "/metrics")[1].decode()
    value = lambda series: float(re.search(rf"^{re.escape(series)} (\S+)$", text, re.M)[1])
    parts = value("rillcast_part_delay_seconds_count")
    return parts - value('rillcast_part_delay_seconds_bucket{le="0.2"}'), parts


def carried(kind, count, seconds):
    """Whether one core carries so many publishers: what went wrong, and the share of the core that was used."""
    with kind() as server, Publishers(server, count, seconds + 15, media(2500)) as publishers:
        all_live(server, count)
        before, began = server.cpu_seconds(), time.monotonic()
        before_late, before_parts = late_parts(server)
        time.sleep(seconds)
        share = (server.cpu_seconds() - before) / (time.monotonic() - began)
        late, parts = late_parts(server)
        live = sum(server.live(f"s{number}") for number in range(count))
        told = publishers.end()
        return {"share": share, "live": live, "lost": told["lost"], "full": told["full"], "sender_late_ms": told["latest_ms"], "parts": parts - before_parts, "late": late - before_late}


def parse_parts(text):
    return re.findall(r'#EXT-X-PART:.*?URI="([^"]+)"', text)


def next_query(text):
    """Asks for the part after the last one listed."""
    first = int(re.search(r"#EXT-X-MEDIA-SEQUENCE:(\d+)", text)[1])
    return f"?_HLS_msn={first + text.count('#EXTINF:')}&_HLS_part={text.rsplit('#EXTINF:', 1)[-1].count('#EXT-X-PART:')}"


def follow_parts(server, seen, stop):
    path, _ = server.playlists("probe")
    connection = http.client.HTTPConnection("127.0.0.1", server.http_port, timeout=20)
    known, query = set(), ""
    while not stop.is_set():
        connection.request("GET", path + query)
        response = connection.getresponse()
        text = response.read().decode()
        if response.status != 200:
            query = ""
            continue
        for part in parse_parts(text):
            if part not in known:
                known.add(part)
                connection.request("GET", urljoin(path, part))
                body = connection.getresponse().read()
                seen.append((time.monotonic(), body))
        query = next_query(text)


def follow_segments(server, seen, stop):
    known = set()
    while not stop.is_set():
        status, body = fetch(server.http_port, "/hls/probe.m3u8")
        for segment in re.findall(r"^([^#\s].*\.ts)$", body.decode(), re.M) if status == 200 else []:
            if segment not in known:
                known.add(segment)
                status, body = fetch(server.http_port, f"/hls/{segment}")
                if status == 200:
                    seen.append((time.monotonic(), body))
        time.sleep(0.05)


def sent_to_fetched(kind, seconds):
    """Milliseconds from having written a picture to having fetched it: (p50, p99)."""
    source = media(2500)
    tags = [tag for tag in rtmp.video_and_audio(source.read_bytes()) if not rtmp.is_header(tag)]
    with kind() as server, Publishers(server, 1, seconds, source, "probe") as publisher:
        stop, seen = threading.Event(), []
        viewer = threading.Thread(target=follow_parts if kind is Rillcast else follow_segments, args=(server, seen, stop), daemon=True)
        viewer.start()
        sent = publisher.end()["sent"]
        time.sleep(0.5)
        stop.set()
    fetched = {}
    if kind is Nginx:
        for at, body in seen:
            for milliseconds in rtmp.ts_video_times(body):
                fetched.setdefault(milliseconds, at)
    else:
        position = {tag.time: tag.payload[5:] for tag in tags if tag.kind == rtmp.VIDEO}
        bodies = list(seen)
        for milliseconds, payload in position.items():
            found = next((at for at, body in bodies if payload in body), None)
            if found:
                fetched[milliseconds] = found
    video = [(at, tags[index].time) for at, sent_kind, index in sent if sent_kind == rtmp.VIDEO]
    # The first seconds are start-up; the last ones may still wait for their segment's end.
    judged = [(at, milliseconds) for at, milliseconds in video if 4000 < milliseconds < (seconds - 4) * 1000]
    delays = sorted(1000 * (fetched[milliseconds] - at) for at, milliseconds in judged if milliseconds in fetched)
    if len(delays) < 0.9 * len(judged):
        raise SystemExit(f"bench: only {len(delays)} of {len(judged)} pictures came through {kind.name}")
    return statistics.median(delays), delays[int(0.99 * len(delays))]


def pin():
    os.sched_setaffinity(0, {LOAD_CORE})

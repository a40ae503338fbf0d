#!/usr/bin/env python3
"""Measures Rillcast beside Debian's nginx with libnginx-mod-rtmp, both in one run on this machine.

    bench/run.py [--publishers 1,20,100] [--seconds 15] [--json FILE]

CPU: publishers send a prepared file at its own pace to one server and then to the other, packaging on (LL-HLS and DASH there,
HLS here); what counts is the processor time of the server's processes, per publisher, as hundredths of one core.
Latency: a publisher of our own notes when each picture's bytes are sent; a viewer notes when they can be fetched, by blocking
reloads where the server offers them, else by asking twenty times a second.
Python's standard library only, so that it runs wherever the server does.
"""
import argparse
import http.client
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "bench"))
import rtmp  # noqa: E402

TICKS = os.sysconf("SC_CLK_TCK")
WARM_UP_S = 6
# One ffmpeg feeds this many publishers: a process each would measure the machine's patience instead of the server.
PER_SENDER = 20


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(what, limit, condition):
    end = time.monotonic() + limit
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise SystemExit(f"bench: waited {limit} s in vain for {what}")


def fetch(port, path, timeout=15):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


class Server:
    """One server with its data in a folder of its own."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.process = None
        self.start()

    def pids(self):
        """The process and its children (nginx works in a child)."""
        found = [self.process.pid]
        for children in pathlib.Path(f"/proc/{self.process.pid}/task").glob("*/children"):
            found += [int(pid) for pid in children.read_text().split()]
        return found

    def cpu_seconds(self):
        total = 0
        for pid in self.pids():
            fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            total += int(fields[11]) + int(fields[12])
        return total / TICKS

    def memory_mib(self):
        total = 0
        for pid in self.pids():
            match = re.search(r"VmRSS:\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text())
            total += int(match[1]) if match else 0
        return total / 1024

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Rillcast(Server):
    name = "rillcast"

    def start(self):
        ports = self.folder / "ports.json"
        environment = dict(
            os.environ,
            RILLCAST__DATA_DIR=str(self.folder / "data"),
            RILLCAST__EDGE__HTTP="127.0.0.1:0",
            RILLCAST__EDGE__HTTPS="127.0.0.1:0",
            RILLCAST__INGEST__RTMP__LISTEN="127.0.0.1:0",
            # All publishers of the benchmark come from one address.
            RILLCAST__INGEST__RTMP__MAX_PER_IP="1000",
            RILLCAST__INGEST__RTMPS__LISTEN="127.0.0.1:0",
            RILLCAST__INGEST__SRT__LISTEN="127.0.0.1:0",
            RILLCAST__TELEMETRY__LISTEN="127.0.0.1:0",
        )
        log = open(self.folder / "log", "wb")
        self.process = subprocess.Popen([ROOT / "target/release/rillcast", "serve", "--ports-file", ports], env=environment, cwd=self.folder, stdout=log, stderr=log)
        wait_for("rillcast to serve", 15, lambda: ports.exists() or self.process.poll() is not None)
        if self.process.poll() is not None:
            raise SystemExit(f"bench: rillcast ended:\n{(self.folder / 'log').read_text()}")
        told = json.loads(ports.read_text())
        self.rtmp_port = int(told["rtmp"].rsplit(":", 1)[1])
        self.http_port = int(told["http"].rsplit(":", 1)[1])

    def live(self, name):
        return fetch(self.http_port, f"/live/{name}/index.m3u8")[0] == 200

    def follow(self, name, seen, stop):
        """Fetches every video part as soon as it can be had; calls seen(bytes, time)."""
        wait_for("the stream", 15, lambda: self.live(name))
        multivariant = fetch(self.http_port, f"/live/{name}/index.m3u8")[1].decode()
        # The first variant is video; sound has a playlist of its own.
        playlist = next(line for line in multivariant.splitlines() if line and not line.startswith("#"))
        base = f"/live/{name}/{playlist.rsplit('/', 1)[0]}/"
        connection = http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=20)

        def get(path):
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read()

        known, query = set(), ""
        while not stop.is_set():
            status, body = get(f"/live/{name}/{playlist}{query}")
            text = body.decode()
            if status != 200:
                query = ""
                continue
            for part in re.findall(r'#EXT-X-PART:.*?URI="([^"]+)"', text):
                if part in known:
                    continue
                known.add(part)
                status, media = get(base + part)
                if status == 200:
                    seen(media, time.monotonic())
            first = int(re.search(r"#EXT-X-MEDIA-SEQUENCE:(\d+)", text)[1])
            whole = text.count("#EXTINF:")
            open_parts = text.rsplit("#EXTINF:", 1)[-1].count("#EXT-X-PART:")
            query = f"?_HLS_msn={first + whole}&_HLS_part={open_parts}"


class Nginx(Server):
    name = "nginx-rtmp"

    def start(self):
        self.rtmp_port, self.http_port = free_port(), free_port()
        hls = self.folder / "hls"
        hls.mkdir()
        module = next(path for path in ("/usr/lib/nginx/modules/ngx_rtmp_module.so", "/usr/share/nginx/modules/ngx_rtmp_module.so") if os.path.exists(path))
        configuration = self.folder / "nginx.conf"
        configuration.write_text(f"""
load_module {module};
daemon off; master_process on; worker_processes 1; user root;
pid {self.folder}/nginx.pid; error_log {self.folder}/error.log warn;
events {{ worker_connections 4096; }}
rtmp {{ server {{ listen 127.0.0.1:{self.rtmp_port}; chunk_size 4096;
  application live {{ live on; hls on; hls_path {hls}; hls_fragment 2s; hls_playlist_length 16s; }} }} }}
http {{ access_log off;
  client_body_temp_path {self.folder}/t1; proxy_temp_path {self.folder}/t2; fastcgi_temp_path {self.folder}/t3; uwsgi_temp_path {self.folder}/t4; scgi_temp_path {self.folder}/t5;
  server {{ listen 127.0.0.1:{self.http_port}; location / {{ root {hls}; }} }} }}
""")
        text = configuration.read_text()
        if os.geteuid() != 0:
            configuration.write_text(text.replace("user root;", ""))
        nginx = shutil.which("nginx") or "/usr/sbin/nginx"
        self.process = subprocess.Popen([nginx, "-c", configuration, "-p", self.folder], stdout=subprocess.DEVNULL, stderr=open(self.folder / "log", "wb"))

        def listens():
            if self.process.poll() is not None:
                raise SystemExit(f"bench: nginx ended:\n{(self.folder / 'log').read_text()}")
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", self.rtmp_port)) == 0

        wait_for("nginx to listen", 10, listens)

    def live(self, name):
        return fetch(self.http_port, f"/{name}.m3u8")[0] == 200

    def follow(self, name, seen, stop):
        known = set()
        while not stop.is_set():
            status, body = fetch(self.http_port, f"/{name}.m3u8")
            if status == 200:
                for segment in re.findall(r"^([^#\s].*\.ts)$", body.decode(), re.M):
                    if segment not in known:
                        known.add(segment)
                        status, media = fetch(self.http_port, f"/{segment}")
                        if status == 200:
                            seen(media, time.monotonic())
            time.sleep(0.05)


def media(folder):
    """A minute of 720p30 with sound at 1.5 Mbit/s, a key frame every two seconds."""
    path = ROOT / "target/bench-media.flv"
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        partial = pathlib.Path(folder) / "media.flv"
        subprocess.run(
            ["ffmpeg", "-y", "-loglevel", "error", "-f", "lavfi", "-i", "testsrc2=size=1280x720:rate=30", "-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000", "-t", "60",
             "-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-b:v", "1500k", "-maxrate", "1500k", "-bufsize", "750k", "-g", "60", "-keyint_min", "60", "-sc_threshold", "0",
             "-bf", "0", "-c:a", "aac", "-b:a", "128k", "-ac", "2", "-f", "flv", partial], check=True)
        shutil.move(partial, path)
    return path


def senders(source, port, count):
    started = []
    for first in range(0, count, PER_SENDER):
        command = ["ffmpeg", "-loglevel", "error", "-re", "-stream_loop", "-1", "-i", str(source)]
        for number in range(first, min(count, first + PER_SENDER)):
            command += ["-map", "0", "-c", "copy", "-f", "flv", f"rtmp://127.0.0.1:{port}/live/s{number}"]
        started.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE))
    return started


def measure_cpu(kind, source, count, seconds):
    with tempfile.TemporaryDirectory(prefix="rillcast-bench-") as folder:
        server = kind(folder)
        sending = []
        try:
            sending = senders(source, server.rtmp_port, count)

            def all_live():
                dead = [sender for sender in sending if sender.poll() is not None]
                if dead:
                    raise SystemExit(f"bench: a publisher at {kind.name} ended: {dead[0].stderr.read().decode()}")
                return all(server.live(f"s{number}") for number in range(count))

            wait_for(f"{count} streams at {kind.name}", 60, all_live)
            time.sleep(WARM_UP_S)
            before, began = server.cpu_seconds(), time.monotonic()
            time.sleep(seconds)
            used, took = server.cpu_seconds() - before, time.monotonic() - began
            all_live()
            return {"percent_of_core_per_publisher": 100 * used / took / count, "memory_mib_per_publisher": server.memory_mib() / count}
        finally:
            for sender in sending:
                sender.kill()
                sender.wait()
            server.stop()


def measure_latency(kind, source, seconds):
    """Milliseconds from sending a picture to having fetched it, for each picture."""
    tags = rtmp.video_and_audio(source.read_bytes())
    sent, fetched = {}, {}
    with tempfile.TemporaryDirectory(prefix="rillcast-bench-") as folder:
        server = kind(folder)
        stop = threading.Event()
        waiting = {}

        def seen(body, at):
            if kind is Nginx:
                for milliseconds in rtmp.ts_video_times(body):
                    fetched.setdefault(milliseconds, at)
                return
            for milliseconds, payload in list(waiting.items()):
                if payload in body:
                    fetched.setdefault(milliseconds, at)
                    del waiting[milliseconds]

        viewer = threading.Thread(target=server.follow, args=("probe", seen, stop), daemon=True)
        try:
            publisher = rtmp.Publisher("127.0.0.1", server.rtmp_port, "live", "probe")
            viewer.start()

            def on_sent(tag, at):
                if tag.kind == rtmp.VIDEO and tag.payload[1] == 1:
                    # The picture's bytes lie in the part as they lay in the message, behind the five bytes of its header.
                    waiting[tag.time] = tag.payload[5:]
                    sent[tag.time] = at

            publisher.send(tags, seconds, on_sent)
            time.sleep(3)
            publisher.close()
        finally:
            stop.set()
            server.stop()
            viewer.join(5)
    # The first three seconds are start-up; the last ones may still wait for their segment's end.
    judged = [at for at in sent if 3000 < at < (seconds - 3) * 1000]
    delays = sorted(1000 * (fetched[at] - sent[at]) for at in judged if at in fetched)
    if len(delays) < 0.9 * len(judged):
        raise SystemExit(f"bench: only {len(delays)} of {len(judged)} pictures came through {kind.name}")
    return {"pictures": len(delays), "p50_ms": statistics.median(delays), "p95_ms": delays[int(0.95 * len(delays))], "max_ms": delays[-1]}


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--publishers", default="1,20,100")
    options.add_argument("--seconds", type=int, default=15)
    options.add_argument("--json", type=pathlib.Path)
    options = options.parse_args()
    for tool in ("ffmpeg", "nginx"):
        if not shutil.which(tool) and not os.path.exists(f"/usr/sbin/{tool}"):
            raise SystemExit(f"bench: {tool} is missing; `scripts/setup.sh bench` installs it")
    if not (ROOT / "target/release/rillcast").exists():
        raise SystemExit("bench: target/release/rillcast is missing; build it with `cargo build --release`")

    result = {"cpu": {}, "latency": {}}
    with tempfile.TemporaryDirectory(prefix="rillcast-bench-") as folder:
        source = media(folder)
    print(f"720p30 H.264 at 1.5 Mbit/s with AAC, packaging on, {os.cpu_count()} cores, {options.seconds} s each\n")
    print(f"{'publishers':>10}  {'rillcast':>22}  {'nginx-rtmp':>22}  {'ratio':>6}")
    for count in map(int, options.publishers.split(",")):
        row = {kind.name: measure_cpu(kind, source, count, options.seconds) for kind in (Rillcast, Nginx)}
        ours, theirs = (row[name]["percent_of_core_per_publisher"] for name in ("rillcast", "nginx-rtmp"))
        row["ratio"] = ours / theirs if theirs else None
        result["cpu"][count] = row
        cell = lambda name: f"{row[name]['percent_of_core_per_publisher']:.2f} % {row[name]['memory_mib_per_publisher']:8.1f} MiB"  # noqa: E731
        print(f"{count:>10}  {cell('rillcast'):>22}  {cell('nginx-rtmp'):>22}  {row['ratio'] or 0:>5.2f}×", flush=True)
    print("            (processor time of one core, and resident memory, per publisher)\n")

    print(f"{'sent to fetchable':>20}  {'p50':>8}  {'p95':>8}  {'max':>8}")
    for kind in (Rillcast, Nginx):
        row = measure_latency(kind, source, options.seconds + 5)
        result["latency"][kind.name] = row
        print(f"{kind.name:>20}  {row['p50_ms']:>5.0f} ms  {row['p95_ms']:>5.0f} ms  {row['max_ms']:>5.0f} ms", flush=True)
    ratio = result["latency"]["rillcast"]["p50_ms"] / result["latency"]["nginx-rtmp"]["p50_ms"]
    result["latency"]["ratio"] = ratio
    print(f"{'ratio':>20}  {ratio:>7.3f}×")
    if options.json:
        options.json.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()

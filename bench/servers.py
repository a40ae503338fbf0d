"""The servers that are measured: each with its data in memory (tmpfs), on one core."""
import http.client
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
# The server has one core to itself, whoever loads it another one, where there are two.
CORES = sorted(os.sched_getaffinity(0))
SERVER_CORE, LOAD_CORE = CORES[0], CORES[-1]
RILLCAST = os.environ.get("RILLCAST_BIN", ROOT / "target/dist/rillcast")
MEMORY = "/dev/shm" if os.path.isdir("/dev/shm") else None


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(what, limit, condition, pause=0.02):
    end = time.monotonic() + limit
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(pause)
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
    """A running server. Use it as a context: leaving it stops the server and removes its data."""

    def __enter__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="rillcast-bench-", dir=MEMORY))
        self.process = None
        self.start()
        return self

    def __exit__(self, *_):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def spawn(self, command, **options):
        log = open(self.folder / "log", "wb")
        self.process = subprocess.Popen(["taskset", "-c", str(SERVER_CORE), *map(str, command)], cwd=self.folder, stdout=log, stderr=log, **options)

    def pids(self):
        """The process and its children (nginx works in a child)."""
        found = [self.process.pid]
        for children in pathlib.Path(f"/proc/{self.process.pid}/task").glob("*/children"):
            found += [int(pid) for pid in children.read_text().split()]
        return found

    def cpu_seconds(self):
        """Processor time used so far, to the nanosecond where the kernel tells it so."""
        total = 0
        for pid in self.pids():
            tasks = list(pathlib.Path(f"/proc/{pid}/task").glob("*/schedstat"))
            if not tasks:
                fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
                total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
            for task in tasks:
                try:
                    total += int(task.read_text().split()[0]) / 1e9
                except OSError:
                    # A thread that has just ended; the ones that work do not.
                    pass
        return total

    def memory_bytes(self):
        total = 0
        for pid in self.pids():
            match = re.search(r"VmRSS:\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text())
            total += int(match[1]) * 1024 if match else 0
        return total

    def is_running(self):
        return self.process.poll() is None


class Rillcast(Server):
    name = "rillcast"

    def start(self):
        ports = self.folder / "ports.json"
        listeners = ("EDGE__HTTP", "EDGE__HTTPS", "INGEST__RTMP__LISTEN", "INGEST__RTMPS__LISTEN", "INGEST__SRT__LISTEN", "TELEMETRY__LISTEN")
        environment = dict(os.environ, **{f"RILLCAST__{key}": "127.0.0.1:0" for key in listeners}, RILLCAST__DATA_DIR=str(self.folder / "data"))
        # All publishers and viewers of the benchmark come from one address.
        environment.update(RILLCAST__INGEST__RTMP__MAX_PER_IP="1000", RILLCAST__EDGE__MAX_WAITING_PER_IP="20000")
        began = time.monotonic()
        self.spawn([RILLCAST, "serve", "--ports-file", ports], env=environment)
        wait_for("rillcast to serve", 15, lambda: ports.exists() or not self.is_running(), pause=0.001)
        self.start_ms = 1000 * (time.monotonic() - began)
        if not self.is_running():
            raise SystemExit(f"bench: rillcast ended:\n{(self.folder / 'log').read_text()}")
        told = {name: int(address.rsplit(":", 1)[1]) for name, address in json.loads(ports.read_text()).items()}
        self.rtmp_port, self.http_port, self.https_port, self.admin_port = (told[name] for name in ("rtmp", "http", "https", "admin"))

    def live(self, name):
        return fetch(self.http_port, f"/live/{name}/index.m3u8")[0] == 200

    def metric(self, name):
        text = fetch(self.admin_port, "/metrics")[1].decode()
        return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(name + " ") or line.startswith(name + "{"))

    def playlists(self, name):
        """Paths of the video and the audio playlist."""
        wait_for("the stream", 20, lambda: self.live(name))
        text = fetch(self.http_port, f"/live/{name}/index.m3u8")[1].decode()
        video = next(line for line in text.splitlines() if line and not line.startswith("#"))
        audio = re.search(r'TYPE=AUDIO.*?URI="([^"]+)"', text)
        return f"/live/{name}/{video}", f"/live/{name}/{audio[1]}" if audio else None


class Nginx(Server):
    """nginx with its RTMP module, and as a server of files at its best."""
    name = "nginx"

    def start(self):
        self.rtmp_port, self.http_port, self.https_port = free_port(), free_port(), free_port()
        self.files = self.folder / "files"
        self.hls = self.folder / "hls"
        self.files.mkdir()
        self.hls.mkdir()
        module = next(path for path in ("/usr/lib/nginx/modules/ngx_rtmp_module.so", "/usr/share/nginx/modules/ngx_rtmp_module.so") if os.path.exists(path))
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=localhost",
                        "-keyout", self.folder / "key.pem", "-out", self.folder / "cert.pem"], check=True, capture_output=True)
        user = "user root;" if os.geteuid() == 0 else ""
        temporary = " ".join(f"{kind}_temp_path {self.folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        configuration = self.folder / "nginx.conf"
        configuration.write_text(f"""
load_module {module};
daemon off; master_process on; worker_processes 1; worker_rlimit_nofile 65536; {user}
pid {self.folder}/nginx.pid; error_log {self.folder}/error.log warn;
events {{ worker_connections 8192; }}
rtmp {{ server {{ listen 127.0.0.1:{self.rtmp_port}; chunk_size 4096;
  application live {{ live on; hls on; hls_path {self.hls}; hls_fragment 1s; hls_playlist_length 16s; }} }} }}
http {{ access_log off; {temporary} types {{ application/vnd.apple.mpegurl m3u8; video/mp4 m4s; }}
  sendfile on; tcp_nopush on; tcp_nodelay on; open_file_cache max=1000 inactive=60s; open_file_cache_valid 60s;
  keepalive_requests 1000000000; keepalive_timeout 75s;
  ssl_certificate {self.folder}/cert.pem; ssl_certificate_key {self.folder}/key.pem; ssl_protocols TLSv1.3; ssl_session_cache shared:s:4m;
  server {{ listen 127.0.0.1:{self.http_port}; listen 127.0.0.1:{self.https_port} ssl http2; root {self.files};
    location /hls/ {{ root {self.folder}; open_file_cache off; }} }} }}
""")
        self.spawn([shutil.which("nginx") or "/usr/sbin/nginx", "-c", configuration, "-p", self.folder])

        def listens():
            if not self.is_running():
                raise SystemExit(f"bench: nginx ended:\n{(self.folder / 'log').read_text()}")
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", self.rtmp_port)) == 0

        wait_for("nginx to listen", 10, listens)

    def live(self, name):
        return (self.hls / f"{name}.m3u8").exists()


def media(kilobits):
    """A minute of 720p30 H.264 with AAC at 128 kbit/s, a key frame every two seconds, as FLV."""
    path = ROOT / f"target/bench-{kilobits}.flv"
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        partial = path.with_suffix(".partial")
        rate = f"{kilobits}k"
        subprocess.run(
            ["ffmpeg", "-y", "-loglevel", "error", "-f", "lavfi", "-i", "testsrc2=size=1280x720:rate=30", "-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000", "-t", "60",
             # Noise, since the encoder would not need the bits for the test picture alone.
             "-vf", "noise=alls=12:allf=t", "-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-b:v", rate, "-maxrate", rate, "-bufsize", f"{kilobits // 2}k",
             "-g", "60", "-keyint_min", "60", "-sc_threshold", "0", "-bf", "0", "-c:a", "aac", "-b:a", "128k", "-ac", "2", "-f", "flv", partial], check=True)
        partial.rename(path)
    return path

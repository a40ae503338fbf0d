#!/usr/bin/env python3
"""Soaks a server: one event after the other, round and round, while viewers watch. Fails when it leaks, falls silent, errs or panics.

    MINUTES=30 scripts/soak.py

The events: nothing, an outage with the same encoder and with another one, another encoder without an outage, timestamps that jump by an hour
and back, streams that come and go under new names (one of them with late sound), viewers who vanish, peers who send junk. What is published was encoded
beforehand and what is watched is not decoded, so that hours of it cost a few per cent of a core.

SERVER names another program than the one just built. JUDGE is a shell command with {url} in it, the address of the multivariant playlist over
TLS: it runs again and again as long as the soak does, and what it finds fails the soak.
"""
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "bench"), str(ROOT / "scripts")]
import rtmp
from soak_peers import Viewer, junk, vanish

MINUTES = float(os.environ.get("MINUTES", "30"))
SERVER = os.environ.get("SERVER", ROOT / "target/release/rillcast")
JUDGE = os.environ.get("JUDGE", "")
PATH = "/live/soak"
# Memory beyond the media kept may grow by this from the second round to the last ones: allocators keep what a flood made them take.
MAY_GROW_MIB = 8
# Playlists go on during an outage, one gap of segment_target (2 s) after the other; a busy machine takes its time.
STILL_S = 5
# From a publisher's return to media that viewers see: it connects, and a key frame is 2 s away at most.
BACK_S = 6
HOUR_MS = 3_600_000
# width, height, pictures a second, bits a second
SMALL, LARGE = (1280, 720, 30, "800k"), (1920, 1080, 24, "1200k")


def media(folder, form):
    width, height, rate, bits = form
    path = folder / f"{height}.flv"
    gop = str(2 * rate)
    subprocess.run(["ffmpeg", "-y", "-loglevel", "error", "-f", "lavfi", "-i", f"testsrc2=size={width}x{height}:rate={rate}",
                    "-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000", "-t", "20", "-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency",
                    "-pix_fmt", "yuv420p", "-b:v", bits, "-maxrate", bits, "-bufsize", bits, "-g", gop, "-keyint_min", gop, "-sc_threshold", "0",
                    "-c:a", "aac", "-b:a", "96k", "-ac", "2", path], check=True)
    return path


class Encoder:
    """ffmpeg, sending a file round and round."""

    def __init__(self, url, file):
        self.process = subprocess.Popen(["ffmpeg", "-loglevel", "error", "-re", "-stream_loop", "-1", "-i", file, "-c", "copy", "-f", "flv", url],
                                        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def cut(self):
        """Pulls the plug: no farewell."""
        self.process.kill()
        self.process.wait()


class Crafted(threading.Thread):
    """Sends a file's tags at their pace, with timestamps as told: `shift` is added to each, `sound_after` holds the sound back for seconds."""

    def __init__(self, address, name, file, sound_after=0):
        super().__init__(daemon=True)
        host, port = address.rsplit(":", 1)
        self.tags, self.sound_after, self.shift, self.stopped, self.error = rtmp.video_and_audio(file.read_bytes()), sound_after, 0, False, None
        self.publisher = rtmp.Publisher(host, int(port), "live", name)
        self.start()

    def run(self):
        try:
            start, turn, length, held = time.monotonic(), 0, max(tag.time for tag in self.tags) + 33, None
            while True:
                for tag in self.tags:
                    if turn and rtmp.is_header(tag):
                        continue
                    at = tag.time + turn * length
                    while (left := start + at / 1000 - time.monotonic()) > 0 and not self.stopped:
                        time.sleep(min(left, 0.5))
                    if self.stopped:
                        return self.publisher.close()
                    if tag.kind == rtmp.AUDIO and at < self.sound_after * 1000:
                        held = tag if rtmp.is_header(tag) else held
                        continue
                    if tag.kind == rtmp.AUDIO and held:
                        self.publisher.send_tag(held._replace(time=(at + self.shift) % 2**32))
                        held = None
                    self.publisher.send_tag(tag._replace(time=(at + self.shift) % 2**32))
                turn += 1
        except OSError as error:
            self.error = error

    def stop(self):
        self.stopped = True
        self.join(5)


class Soak:
    def __init__(self, folder):
        self.folder, self.wrong, self.samples, self.quiet = folder, [], [], []
        self.event, self.round = "start", 0
        self.files = {form: media(folder, form) for form in (SMALL, LARGE)}
        environment = dict(os.environ, RILLCAST__DATA_DIR=str(folder / "data"))
        for key in ("EDGE__HTTP", "EDGE__HTTPS", "INGEST__RTMP__LISTEN", "INGEST__RTMPS__LISTEN", "INGEST__SRT__LISTEN", "TELEMETRY__LISTEN"):
            environment[f"RILLCAST__{key}"] = "127.0.0.1:0"
        ports = folder / "ports.json"
        self.log = open(folder / "log", "wb")
        self.server = subprocess.Popen([SERVER, "serve", "--ports-file", ports], env=environment, cwd=folder, stdout=self.log, stderr=self.log)
        end = time.monotonic() + 15
        while not ports.exists():
            if self.server.poll() is not None or time.monotonic() > end:
                raise SystemExit(f"soak: the server does not serve; see {folder}/log")
            time.sleep(0.05)
        self.ports = json.loads(ports.read_text())
        self.publisher = self.viewer = None

    def url(self, name):
        return f"rtmp://{self.ports['rtmp']}/live/{name}"

    def metrics(self):
        with urllib.request.urlopen(f"http://{self.ports['admin']}/metrics", timeout=10) as response:
            return response.read().decode()

    def sample(self):
        status = pathlib.Path(f"/proc/{self.server.pid}/status").read_text()
        text = self.metrics()
        used = pathlib.Path(f"/proc/{self.server.pid}/stat").read_text().rpartition(")")[2].split()
        return {"at": time.monotonic() - self.began, "rss": int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024, "threads": int(re.search(r"Threads:\s+(\d+)", status)[1]),
                "media": float(re.search(r"^rillcast_media_bytes (\S+)", text, re.M)[1]) / 2**20, "files": len(os.listdir(f"/proc/{self.server.pid}/fd")),
                "cpu": (int(used[11]) + int(used[12])) / os.sysconf("SC_CLK_TCK"), "errors": sum(float(n) for n in re.findall(r'^rillcast_http_requests_total\{[^}]*code="5\d\d"[^}]*\} (\S+)', text, re.M))}

    def fault(self, what):
        self.wrong.append(what)
        print(f"{(time.monotonic() - self.began) / 60:6.1f} min  round {self.round}, {self.event}: {what}", flush=True)

    def pass_time(self, seconds):
        """Waits; every minute it says how things are, and what viewers found wrong at once."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if self.server.poll() is not None:
                raise SystemExit(f"soak: the server is gone; see {self.folder}/log")
            if self.viewer:
                while self.viewer.wrong:
                    self.fault(self.viewer.wrong.pop(0))
                if self.viewer.still() > STILL_S:
                    self.fault(f"a playlist stands still for {self.viewer.still():.1f} s")
            if not self.samples or time.monotonic() - self.began - self.samples[-1]["at"] > 60:
                now = self.sample()
                self.samples.append(now)
                print(f"{now['at'] / 60:6.1f} min  round {self.round:3}  {self.event:<16} {now['rss']:6.1f} MiB, {now['media']:5.1f} of media  {now['files']:3} files  "
                      f"{now['threads']:2} threads  {now['cpu']:7.1f} s of CPU  {self.viewer.requests if self.viewer else 0} requests", flush=True)
            time.sleep(min(left, 1))

    def expect_media(self):
        """After an event: viewers get new media again, and go on getting it."""
        since = time.monotonic()
        while self.viewer.media_since() < since:
            if time.monotonic() > since + BACK_S:
                return self.fault(f"no new media {BACK_S} s after the publisher was back")
            time.sleep(0.05)

    def publish(self, form):
        self.publisher = Encoder(self.url("soak"), self.files[form])

    def during(self, event):
        self.event = event
        return self

    def outage(self, form, seconds):
        self.publisher.cut()
        self.pass_time(seconds)
        self.publish(form)
        self.expect_media()
        self.pass_time(15)

    def jumps(self):
        self.publisher.cut()
        crafted = Crafted(self.ports["rtmp"], "soak", self.files[SMALL])
        self.expect_media()
        for shift in (HOUR_MS, 0):
            self.pass_time(10)
            crafted.shift = shift
            self.expect_media()
        self.pass_time(10)
        crafted.stop()
        if crafted.error:
            self.fault(f"a publisher whose timestamps jumped was thrown out: {crafted.error}")
        self.publish(SMALL)
        self.expect_media()

    def guests(self):
        guests = [Crafted(self.ports["rtmp"], f"guest-{self.round}-{number}", self.files[SMALL], sound_after=4 * (number == 0)) for number in range(3)]
        self.pass_time(10)
        with urllib.request.urlopen(f"http://{self.ports['http']}/live/guest-{self.round}-0/index.m3u8", timeout=10) as response:
            if "mp4a.40.2" not in response.read().decode():
                self.fault("sound that came late is not in the multivariant playlist")
        for guest in guests:
            guest.stop()
            if guest.error:
                self.fault(f"a guest was thrown out: {guest.error}")

    def go_round(self):
        self.round += 1
        self.during("nothing").pass_time(30)
        self.quiet.append(self.sample())
        self.during("outage of 3 s").outage(SMALL, 3)
        self.during("outage of 10 s").outage(LARGE, 10)
        self.during("other encoder").outage(SMALL, 0)
        self.during("time jumps").jumps()
        self.during("guests").guests()
        self.during("vanishing").pass_time(1)
        vanish(self.ports["http"], PATH, 60)
        self.pass_time(5)
        self.during("junk").pass_time(1)
        junk([self.ports["rtmp"], self.ports["http"], self.ports["https"]], 150)
        # Guests' streams end after ingest.resume_window, 30 s, and what junk left open after the deadlines of handshakes, 10 s.
        self.during("cooling").pass_time(45)

    def judge(self):
        number = 0
        while True:
            number += 1
            out = self.folder / f"judge-{number}"
            with open(out, "wb") as file:
                done = subprocess.run(JUDGE.replace("{url}", f"https://{self.ports['https']}{PATH}/index.m3u8"), shell=True, stdout=file, stderr=file)
            if done.returncode:
                self.fault(f"the judge says {done.returncode}; see {out}")

    def verdict(self):
        last = self.sample()
        self.quiet.append(last)
        if last["errors"]:
            self.fault(f"{last['errors']:.0f} requests were answered 5xx")
        if "panicked" in (text := (self.folder / "log").read_text(errors="replace")) or '"ERROR"' in text:
            self.fault(f"the log tells of a panic; see {self.folder}/log")
        settled = self.quiet[1:] if len(self.quiet) > 2 else self.quiet
        beyond = [sample["rss"] - sample["media"] for sample in settled]
        # Means of the first and last few rounds, since an allocator's figure goes up and down by itself.
        few = max(1, min(4, len(beyond) // 3))
        first, final = statistics.mean(beyond[:few]), statistics.mean(beyond[-few:])
        slope = statistics.linear_regression([sample["at"] / 3600 for sample in settled], beyond).slope if len(settled) > 3 else 0
        if final - first > MAY_GROW_MIB:
            self.fault(f"memory beyond the media kept grew from {first:.1f} to {final:.1f} MiB")
        for what, most in (("files", 8), ("threads", 2)):
            if last[what] > settled[0][what] + most:
                self.fault(f"from {settled[0][what]} to {last[what]} {what}")
        print(f"soak: {self.round} rounds in {last['at'] / 60:.0f} min; memory beyond media {first:.1f} MiB at first, {final:.1f} at last, {slope:+.2f} MiB an hour; "
              f"{settled[0]['files']} and {last['files']} files, {settled[0]['threads']} and {last['threads']} threads; no playlist still longer than {self.viewer.longest_still:.1f} s; "
              f"{self.viewer.requests} requests; server {100 * last['cpu'] / last['at']:.1f} % of a core", flush=True)

    def run(self):
        self.began = time.monotonic()
        self.publish(SMALL)
        self.pass_time(8)
        self.viewer = Viewer(self.ports["https"], PATH)
        self.viewer.start()
        if JUDGE:
            threading.Thread(target=self.judge, daemon=True).start()
        while time.monotonic() - self.began < MINUTES * 60:
            self.go_round()
        self.verdict()
        if self.wrong:
            raise SystemExit(f"soak: {len(self.wrong)} things went wrong; see above and {self.folder}")
        print("soak: passed")

    def close(self):
        if self.viewer:
            self.viewer.stopped = True
        if isinstance(self.publisher, Encoder):
            self.publisher.cut()
        if self.server.poll() is None:
            self.server.terminate()
            try:
                self.server.wait(15)
            except subprocess.TimeoutExpired:
                self.server.kill()


if __name__ == "__main__":
    soak = Soak(pathlib.Path(tempfile.mkdtemp(prefix="rillcast-soak-")))
    try:
        soak.run()
    finally:
        soak.close()

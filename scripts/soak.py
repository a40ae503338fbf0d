#!/usr/bin/env python3
"""Soaks a server: one event after the other, round and round, while viewers watch. Fails when it leaks, falls silent, errs or panics.

    MINUTES=30 scripts/soak.py

The events: nothing; outages with the same encoder and with another one; another encoder without an outage; timestamps that jump by an hour and back,
wrap, stand still and go back; uneven picture rates, one picture a second, no key frames; fast and slow clocks, bursts; a track that falls silent;
streams that come and go under new names, one of them with late sound; viewers who vanish; peers who send junk. What is published was encoded beforehand
and what is watched is not decoded, so that hours of it cost a few per cent of a core.

SERVER names another program than the one just built. JUDGE is a shell command with {url} in it, the address of the multivariant playlist over
TLS: it runs again and again as long as the soak does, is waited for, and fails the soak when it fails.
"""
import itertools
import json
import math
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
# Memory beyond the media kept may grow by this from the second round to the last ones.
MAY_GROW_MIB = 8
# 1.5 target durations (RFC 8216bis 6.2.1). During an outage gaps of segment_target (2 s) follow one another; that sound is silent shows after two segments.
STILL_S = 6
# From a publisher's return to media that viewers see: it connects, and a key frame is 2 s away at most.
BACK_S = 6
HOUR_MS = 3_600_000
# Of one profile and level and alike in bit rate, so that what a multivariant playlist said of the first encoder is true of all.
SMALL, LARGE, UNEVEN, SLOW, RARE_KEYS = "1280x720 at 30", "1920x1080 at 24", "uneven rate", "1 a second", "no key frames"
MEDIA = {
    SMALL: ("1280x720", 30, 60, []),
    LARGE: ("1920x1080", 24, 48, []),
    UNEVEN: ("1280x720", 30, 60, ["-vf", "select='lt(mod(t,4),2)+not(mod(n,3))'", "-fps_mode", "vfr", "-force_key_frames", "expr:gte(t,n_forced*2)"]),
    SLOW: ("1280x720", 1, 2, []),
    RARE_KEYS: ("1280x720", 30, 100_000, []),
}


def media(folder, form):
    size, rate, gop, more = MEDIA[form]
    path = folder / f"{form.replace(' ', '-')}.flv"
    subprocess.run(["ffmpeg", "-y", "-loglevel", "error", "-f", "lavfi", "-i", f"testsrc2=size={size}:rate={rate}",
                    "-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000", "-t", "20", "-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency",
                    "-pix_fmt", "yuv420p", "-level", "4.0", "-b:v", "900k", "-maxrate", "900k", "-bufsize", "450k", "-g", str(gop), "-keyint_min", str(gop),
                    "-sc_threshold", "0", *more, "-c:a", "aac", "-b:a", "96k", "-ac", "2", path], check=True)
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


def as_it_is(at, tag, number):
    """When a tag that is due at `at` milliseconds is sent, and what time it says. None: not at all. `number` counts tags of its kind."""
    return at, at


def unruly(at, tag, number):
    """Now and then a picture says the time of the one before, or one before that."""
    return at, at - (33 if number % 20 == 7 else 66 if number % 20 == 13 else 0) * (tag.kind == rtmp.VIDEO)


def clock(factor):
    return lambda at, tag, number: (at / factor, at)


def bursts(at, tag, number):
    return math.ceil(at / 1000) * 1000, at


def before_the_wrap(at, tag, number):
    return at, at + 2**32 - 5000


def silent(at, tag, number):
    """Sound falls silent for six seconds, and then so does the picture."""
    gone = rtmp.AUDIO if 4000 <= at < 10_000 else rtmp.VIDEO if 14_000 <= at < 20_000 else None
    return None if tag.kind == gone else (at, at)


class Crafted(threading.Thread):
    """Sends a file's tags round and round at times that no encoder can be told to send: `warp` says which, `shift` is added to each."""

    def __init__(self, address, name, file, warp=as_it_is, sound_after=0):
        super().__init__(daemon=True)
        host, port = address.rsplit(":", 1)
        self.tags, self.warp, self.sound_after, self.shift, self.stopped, self.error = rtmp.video_and_audio(file.read_bytes()), warp, sound_after, 0, False, None
        self.publisher = rtmp.Publisher(host, int(port), "live", name)
        self.start()

    def run(self):
        try:
            start, length, held, count = time.monotonic(), max(tag.time for tag in self.tags) + 33, None, {rtmp.AUDIO: 0, rtmp.VIDEO: 0}
            for turn in itertools.count():
                for tag in self.tags:
                    if turn and rtmp.is_header(tag):
                        continue
                    count[tag.kind] += 1
                    warped = self.warp(tag.time + turn * length, tag, count[tag.kind])
                    if warped is None:
                        continue
                    at, stamp = warped
                    while (left := start + at / 1000 - time.monotonic()) > 0 and not self.stopped:
                        time.sleep(min(left, 0.5))
                    if self.stopped:
                        return self.publisher.close()
                    if tag.kind == rtmp.AUDIO and at < self.sound_after * 1000:
                        held = tag if rtmp.is_header(tag) else held
                        continue
                    stamp = int(stamp + self.shift) % 2**32
                    if tag.kind == rtmp.AUDIO and held:
                        self.publisher.send_tag(held._replace(time=stamp))
                        held = None
                    self.publisher.send_tag(tag._replace(time=stamp))
        except OSError as error:
            self.error = error

    def cut(self):
        self.stopped = True
        self.join(5)


class Soak:
    def __init__(self, folder):
        self.folder, self.wrong, self.samples, self.quiet = folder, [], [], []
        self.event, self.round = "start", 0
        self.files = {form: media(folder, form) for form in MEDIA}
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

    def publish(self, form, warp=None):
        self.publisher = Encoder(self.url("soak"), self.files[form]) if warp is None else Crafted(self.ports["rtmp"], "soak", self.files[form], warp)

    def replace(self, form, warp=None, away=0):
        """Another publisher takes over, after an outage of `away` seconds."""
        self.publisher.cut()
        if error := getattr(self.publisher, "error", None):
            self.fault(f"the publisher was thrown out: {error}")
        self.pass_time(away)
        self.publish(form, warp)
        self.expect_media()

    def outage(self, form, away):
        self.replace(form, away=away)
        self.pass_time(15)

    def crafted(self, event, form, warp, seconds):
        self.event = event
        self.replace(form, warp)
        self.pass_time(seconds)

    def jumps(self):
        self.event = "time jumps"
        self.replace(SMALL, as_it_is)
        for shift in (HOUR_MS, 0):
            self.pass_time(10)
            self.publisher.shift = shift
            self.expect_media()
        self.pass_time(10)

    def guests(self):
        self.event = "guests"
        guests = [Crafted(self.ports["rtmp"], f"guest-{self.round}-{number}", self.files[SMALL], sound_after=4 * (number == 0)) for number in range(3)]
        self.pass_time(10)
        with urllib.request.urlopen(f"http://{self.ports['http']}/live/guest-{self.round}-0/index.m3u8", timeout=10) as response:
            if "mp4a.40.2" not in response.read().decode():
                self.fault("sound that came late is not in the multivariant playlist")
        for guest in guests:
            guest.cut()
            if guest.error:
                self.fault(f"a guest was thrown out: {guest.error}")

    def go_round(self):
        self.round += 1
        self.event = "nothing"
        self.pass_time(30)
        self.quiet.append(self.sample())
        self.event = "outage of 3 s"
        self.outage(SMALL, 3)
        self.event = "outage of 10 s"
        self.outage(LARGE, 10)
        self.event = "other encoder"
        self.outage(SMALL, 0)
        self.jumps()
        self.crafted("wrap", SMALL, before_the_wrap, 12)
        self.crafted("unruly times", SMALL, unruly, 10)
        self.crafted("uneven rate", UNEVEN, as_it_is, 12)
        self.crafted("1 a second", SLOW, as_it_is, 10)
        self.crafted("no key frames", RARE_KEYS, as_it_is, 18)
        self.crafted("fast clock", SMALL, clock(1.001), 15)
        self.crafted("slow clock", SMALL, clock(0.999), 15)
        self.crafted("bursts", SMALL, bursts, 10)
        self.crafted("silence", SMALL, silent, 25)
        self.event = "guests"
        self.replace(SMALL)
        self.guests()
        self.event = "vanishing"
        vanish(self.ports["http"], PATH, 60)
        self.pass_time(5)
        self.event = "junk"
        junk([self.ports["rtmp"], self.ports["http"], self.ports["https"]], 150)
        # Guests' streams end after ingest.resume_window, 30 s, and what junk left open after the deadlines of handshakes, 10 s.
        self.event = "cooling"
        self.pass_time(45)

    def judge(self):
        for number in itertools.count(1):
            if time.monotonic() - self.began > MINUTES * 60:
                return
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
        # Six segments: a playlist that is younger than that is shorter than the specification wants one.
        self.pass_time(20)
        self.viewer = Viewer(self.ports["https"], PATH)
        self.viewer.start()
        judge = threading.Thread(target=self.judge, daemon=True)
        if JUDGE:
            judge.start()
        # A judge who has begun is waited for.
        while time.monotonic() - self.began < MINUTES * 60 or judge.is_alive():
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

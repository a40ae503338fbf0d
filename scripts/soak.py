#!/usr/bin/env python3
"""Publishes for a long while and watches the server: memory, open files, parts that stay away. Fails when it leaks or falls silent.

    MINUTES=30 scripts/soak.py
"""
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
MINUTES = float(os.environ.get("MINUTES", "30"))
SETTLED_AFTER_S = 60
# A window of 16 s at 2 Mbit/s is 4 MiB; growth beyond this over the whole soak is a leak.
MAY_GROW_MIB = 24
SILENCE_S = 5


def resident_mib(pid):
    return int(re.search(r"VmRSS:\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text())[1]) / 1024


def get(address):
    with urllib.request.urlopen(address, timeout=20) as response:
        return response.read().decode()


def main():
    folder = pathlib.Path(tempfile.mkdtemp(prefix="rillcast-soak-"))
    ports = folder / "ports.json"
    environment = dict(os.environ, RILLCAST__DATA_DIR=str(folder / "data"))
    for key in ("EDGE__HTTP", "EDGE__HTTPS", "INGEST__RTMP__LISTEN", "INGEST__RTMPS__LISTEN", "INGEST__SRT__LISTEN", "TELEMETRY__LISTEN"):
        environment[f"RILLCAST__{key}"] = "127.0.0.1:0"
    log = open(folder / "log", "wb")
    server = subprocess.Popen([ROOT / "target/release/rillcast", "serve", "--ports-file", ports], env=environment, cwd=folder, stdout=log, stderr=log)
    publisher = None
    try:
        end = time.monotonic() + 15
        while not ports.exists():
            if server.poll() is not None or time.monotonic() > end:
                raise SystemExit(f"soak: the server does not serve; see {folder}/log")
            time.sleep(0.05)
        told = json.loads(ports.read_text())
        publisher = subprocess.Popen([ROOT / "scripts/demo.sh", f"rtmp://{told['rtmp']}/live/soak"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        base = f"http://{told['http']}/live/soak/"
        began = changed = time.monotonic()
        playlist, last, settled = None, None, None
        while time.monotonic() - began < MINUTES * 60:
            time.sleep(1)
            if server.poll() is not None or publisher.poll() is not None:
                raise SystemExit(f"soak: the server or its publisher ended; see {folder}/log")
            try:
                playlist = playlist or next(line for line in get(base + "index.m3u8").splitlines() if line and not line.startswith("#"))
                text = get(base + playlist)
            except (urllib.error.URLError, StopIteration):
                text = last
            if text != last:
                last, changed = text, time.monotonic()
            if time.monotonic() - changed > SILENCE_S + (15 if last is None else 0):
                raise SystemExit(f"soak: the playlist stands still for {SILENCE_S} s; see {folder}/log")
            age = time.monotonic() - began
            memory, files = resident_mib(server.pid), len(os.listdir(f"/proc/{server.pid}/fd"))
            if settled is None and age > SETTLED_AFTER_S:
                settled = (memory, files)
            if int(age) % 60 == 0:
                print(f"{age / 60:5.1f} min  {memory:7.1f} MiB  {files} open files", flush=True)
        memory, files = resident_mib(server.pid), len(os.listdir(f"/proc/{server.pid}/fd"))
        first_memory, first_files = settled or (memory, files)
        if memory - first_memory > MAY_GROW_MIB or files - first_files > 20:
            raise SystemExit(f"soak: from {first_memory:.1f} to {memory:.1f} MiB, from {first_files} to {files} open files")
        print(f"soak: passed; {first_memory:.1f} MiB at first, {memory:.1f} MiB at last")
    finally:
        for process in (publisher, server):
            if process and process.poll() is None:
                process.terminate()
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    process.kill()


if __name__ == "__main__":
    sys.exit(main())

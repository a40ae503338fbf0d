#!/usr/bin/env python3
"""Measures Rillcast beside Debian's nginx (with its RTMP module where publishers are concerned), in turns, on this machine.

    bench/run.py [--rounds 5] [--only ROW[,ROW…]] [--json FILE]         rows: cpu, memory, idle, carry, fetchable, waiting, delivery, alone

The server has one core, the load another. What counts is the processor time of the server, not the time on the wall, since machines are
shared: what is compared is measured one right after the other, each line is the median of the rounds' ratios, and the bar stands beside it.
Python's standard library only, so that it runs wherever the server does.
"""
import argparse
import json
import os
import pathlib
import shutil
import statistics
import sys

import delivery
import ingest
from servers import CORES, RILLCAST, ROOT, Nginx, Rillcast

TOOLS = ("ffmpeg", "nginx", "wrk", "h2load", "openssl", "taskset")
results = []


def say(row, ours, peer, ratio, bar, met):
    results.append({"row": row, "rillcast": ours, "peer": peer, "ratio": ratio, "bar": bar, "met": met})
    print(f"{row:<56}  {ours:>20}  {peer:>20}  {ratio if isinstance(ratio, str) else f'{ratio:.2f}':>7}  {bar:<18}  {'yes' if met else 'NO'}", flush=True)


def medians(rows):
    return [statistics.median(column) for column in zip(*rows)]


def in_turns(rounds, ours, peer):
    """Both in turns: medians of ours, of the peer's, and of the ratios."""
    return medians([(a, b, a / b) for a, b in ((ours(number), peer(number)) for number in range(rounds))])


def cpu(rounds):
    for count in (1, 20, 100):
        seconds = 15 if count == 1 else 8
        ours, peer, ratio = in_turns(rounds, lambda _: ingest.cpu(Rillcast, count, seconds), lambda _: ingest.cpu(Nginx, count, seconds))
        say(f"CPU per publisher, {count} publishing", f"{ours:.2f} ms/s", f"{peer:.2f} ms/s", ratio, "at most 0.6", ratio <= 0.6)


def memory(rounds):
    held, kept = medians([ingest.memory(100) for _ in range(min(rounds, 2))])
    most = kept * 1.1 + 256
    say("memory per publisher, 100 publishing", f"{held:.0f} KiB", f"media {kept:.0f} KiB", held / most, f"at most {most:.0f} KiB", held <= most)


def idle(rounds):
    resident, start = medians([ingest.idle() for _ in range(rounds)])
    say("idle memory", f"{resident:.1f} MiB", "", "", "at most 25 MB", resident * 2**20 <= 25e6)
    say("start to listening", f"{start:.0f} ms", "", "", "at most 200 ms", start <= 200)


def carry(rounds):
    for kind, bar in ((Rillcast, True), (Nginx, False)):
        told = ingest.carried(kind, 500, 20)
        good = told["live"] == 500 and not told["lost"] and not told["late"] and told["share"] < 0.98
        text = f"{told['live']} live, {told['lost']} lost" + (f", {told['late']:.0f} of {told['parts']:.0f} parts late" if bar else "")
        say(f"500 publishers on one core, {kind.name}", text, f"core {100 * told['share']:.0f} %", f"{told['sender_late_ms']:.0f} ms", "none lost, no late part", good)


def fetchable(rounds):
    rows = [(*ingest.sent_to_fetched(Rillcast, 20), *ingest.sent_to_fetched(Nginx, 20)) for _ in range(rounds)]
    p50, p99, peer50, peer99 = medians(rows)
    say("picture sent to fetchable, p50", f"{p50:.0f} ms", f"{peer50:.0f} ms", p50 / peer50, "at most 140 ms", p50 <= 140)
    say("picture sent to fetchable, p99", f"{p99:.0f} ms", f"{peer99:.0f} ms", p99 / peer99, "at most 270 ms", p99 <= 270)


def waiting(rounds):
    for count, bar in ((1, 5), (1000, 15)):
        p50, p99 = medians([delivery.waiting(count, 12) for _ in range(rounds)])
        bound = 2 if count == 1 else bar
        say(f"access unit to first byte, {count} waiting, p50", f"{p50:.2f} ms", "", "", f"at most {bound} ms", p50 <= bound)
        say(f"access unit to first byte, {count} waiting, p99", f"{p99:.2f} ms", "", "", f"at most {bar} ms", p99 <= bar)


def ten_at_once(server, path, connections, seconds):
    return delivery.h2load(server, path, connections, seconds, 10)


def rates(pair, rounds, what, load, seconds=4):
    rows, size = [], 0
    for number in range(rounds):
        path, copy, size = pair.targets(what, f"{load.__name__}-{number}")
        ours, peer = load(pair.rillcast, path, 64, seconds), load(pair.nginx, copy, 64, seconds)
        ours, peer = (each[0] if isinstance(each, tuple) else each for each in (ours, peer))
        rows.append((ours, peer, ours / peer))
    return (*medians(rows), size)


def rows_of_delivery(rounds):
    with delivery.Pair() as pair:
        for load, words in ((delivery.wrk, "HTTP/1.1"), (ten_at_once, "h2 + TLS 1.3, 10 at once"), (delivery.h2load, "h2 + TLS 1.3, 1 at once")):
            ours, peer, ratio, size = rates(pair, rounds, "playlist", load)
            say(f"live playlist of {size} bytes, {words}", f"{ours / 1000:.1f} k/cpu s", f"{peer / 1000:.1f} k/cpu s", ratio, "at least 1.3", ratio >= 1.3)
        for load, words, what, bar in ((delivery.wrk, "HTTP/1.1 clear", "segment", 0.9), (delivery.h2load, "h2 + TLS 1.3", "segment", 1.1), (delivery.h2load, "h2 + TLS 1.3", "audio", 1.0)):
            ours, peer, ratio, size = rates(pair, rounds, what, load)
            gigabits = [f"{8 * size * rate / 1e9:.1f} Gb/cpu s" for rate in (ours, peer)]
            say(f"{what} of {size // 1024} KiB, {words}", *gigabits, ratio, f"at least {bar}", ratio >= bar)


def alone(rounds):
    rows = []
    for _ in range(rounds):
        ours, segment = delivery.alone(Rillcast, 12)
        peer, _ = delivery.alone(Nginx, 12, segment)
        rows.append((*ours, *peer, ours[0] / peer[0], ours[1] / peer[1]))
    ours50, ours99, peer50, peer99, ratio50, ratio99 = medians(rows)
    for words, ours, peer, ratio in (("p50", ours50, peer50, ratio50), ("p99", ours99, peer99, ratio99)):
        say(f"segment on one keep-alive connection, {words}", f"{ours:.2f} ms", f"{peer:.2f} ms", ratio, "at most 1.1", ratio <= 1.1)


ROWS = {"cpu": cpu, "memory": memory, "idle": idle, "carry": carry, "fetchable": fetchable, "waiting": waiting, "delivery": rows_of_delivery, "alone": alone}


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=int(os.environ.get("ROUNDS", 5)))
    options.add_argument("--only", default=os.environ.get("ONLY", ",".join(ROWS)))
    options.add_argument("--json", type=pathlib.Path)
    options = options.parse_args()
    for tool in TOOLS:
        if not shutil.which(tool) and not os.path.exists(f"/usr/sbin/{tool}"):
            raise SystemExit(f"bench: {tool} is missing; `scripts/setup.sh bench` installs it")
    if not os.path.exists(RILLCAST):
        raise SystemExit(f"bench: {RILLCAST} is missing; build it with `cargo build --profile dist`")
    ingest.pin()
    print(f"720p30 H.264 at 2.5 Mbit/s with AAC, {len(CORES)} cores, medians of {options.rounds}\n")
    print(f"{'':<56}  {'rillcast':>20}  {'nginx':>20}  {'ratio':>7}  {'bar':<18}  met")
    for row in options.only.split(","):
        ROWS[row](options.rounds)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())

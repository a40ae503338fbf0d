#!/usr/bin/env python3
"""A bad line: IP packets between this network namespace and a new one are delayed, lost, reordered and queued as asked.

Real TCP, UDP and QUIC run through it, so that retransmission and congestion control are the kernel's and not imitated. Each packet's fate is
drawn from a seed, and every one is counted. Needs nothing of the kernel but TUN: not every machine has netem.

    this namespace                         the far namespace
    NEAR ── TUN ── this program, which holds packets back ── TUN ── FAR

    link.py WEATHER          WEATHER is JSON, see `Weather`; a further line of JSON changes it, `counts` asks what happened, `end` ends
    link.py --echo ADDRESS   sends every datagram back to its sender (for the test of this program)

Says where it runs in one line of JSON, and ends when its input does. Needs CAP_NET_ADMIN, CAP_SYS_ADMIN and /dev/net/tun.
"""
import fcntl
import heapq
import ipaddress
import json
import os
import random
import select
import socket
import struct
import subprocess
import sys
import time

# linux/if_tun.h
TUNSETIFF = 0x400454CA
IFF_TUN = 0x0001
IFF_NO_PI = 0x1000
# More than any packet that a TUN without offloads hands out.
PACKET = 65536
# Taken at once from one device before the other has its turn.
BURST = 64
# RFC 2544: for tests of networks, never routed anywhere.
ADDRESSES = ipaddress.ip_network("198.18.0.0/15")


def say(**fields):
    print(json.dumps(fields), flush=True)


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"link: `{' '.join(command)}` says: {done.stderr.strip()}. It takes root, with CAP_NET_ADMIN and CAP_SYS_ADMIN")
    return done.stdout


class Weather:
    """What happens to packets; the same in both directions."""

    def __init__(self, told):
        # Seconds each way.
        self.delay = told["delay_s"]
        # Up to so many seconds more, drawn anew for each packet; packets keep their order.
        self.jitter = told["jitter_s"]
        # Shares of packets, 0 to 1.
        self.loss = told["loss"]
        # These are held back until packets sent later have overtaken them.
        self.reorder = told["reorder"]
        # Bits a second; None is as fast as it goes.
        self.rate = told["rate"]
        # Seconds of queue before the bottleneck; what comes when it is full is dropped.
        self.queue = told["queue_s"]


class Direction:
    """From one device to the other."""

    # How long a held-back packet is late: longer than the packets behind it are apart.
    LATE_S = 0.02

    def __init__(self, source, target, seed):
        self.source, self.target = source, target
        self.random = random.Random(seed)
        self.waiting = []
        self.number = 0
        self.free_at = 0.0
        self.last_due = 0.0
        self.counts = {"packets": 0, "bytes": 0, "lost": 0, "dropped": 0, "reordered": 0}

    def take(self, weather):
        for _ in range(BURST):
            try:
                packet = os.read(self.source, PACKET)
            except BlockingIOError:
                return
            self.fate(packet, weather, time.monotonic())

    def fate(self, packet, weather, now):
        self.counts["packets"] += 1
        self.counts["bytes"] += len(packet)
        # Three draws for every packet: one packet's fate must not depend on another's.
        lost, late, jitter = (self.random.random() for _ in range(3))
        if lost < weather.loss:
            self.counts["lost"] += 1
            return
        through = now
        if weather.rate:
            through = max(now, self.free_at)
            if through - now > weather.queue:
                self.counts["dropped"] += 1
                return
            through += len(packet) * 8 / weather.rate
            self.free_at = through
        due = max(self.last_due, through + weather.delay + jitter * weather.jitter)
        if late < weather.reorder:
            self.counts["reordered"] += 1
            due += self.LATE_S
        else:
            self.last_due = due
        self.number += 1
        heapq.heappush(self.waiting, (due, self.number, packet))

    def deliver(self, now):
        while self.waiting and self.waiting[0][0] <= now:
            try:
                os.write(self.target, heapq.heappop(self.waiting)[2])
            except OSError:
                # The device's queue is full, or it is down: the packet is lost as on any wire.
                self.counts["dropped"] += 1

    def next_due(self):
        return self.waiting[0][0] if self.waiting else None


def open_tun(name):
    try:
        device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI))
    except OSError as error:
        raise SystemExit(f"link: /dev/net/tun cannot be used: {error}. It takes root with CAP_NET_ADMIN, and the kernel's tun module")
    return device


def free_pair(number):
    """Two addresses of a /30 that no device here has; the search begins at a place of this process's own."""
    used = {ipaddress.ip_interface(link.split()[3]).network for link in run("ip", "-o", "-4", "address", "show").splitlines()}
    networks = 1 << (30 - ADDRESSES.prefixlen)
    for step in range(networks):
        network = ipaddress.ip_network((int(ADDRESSES.network_address) + (number + step) % networks * 4, 30))
        if network not in used:
            return [str(host) for host in network.hosts()]
    raise SystemExit("link: no address is free")


def main(told):
    weather = Weather(told)
    number = os.getpid()
    namespace = f"rillcast-{number}"
    near_name, far_name = f"rln{number}", f"rlf{number}"
    near, far = free_pair(number)
    near_device, far_device = open_tun(near_name), open_tun(far_name)
    run("ip", "netns", "add", namespace)
    try:
        # The device moves; the descriptor that holds it stays here.
        run("ip", "link", "set", far_name, "netns", namespace)
        inside = ["ip", "-n", namespace]
        run(*inside, "link", "set", "lo", "up")
        for ip, name, own, peer in (["ip"], near_name, near, far), (inside, far_name, far, near):
            run(*ip, "address", "add", own, "peer", peer, "dev", name)
            # No IPv6 of its own accord: only what a test sends is on the line.
            run(*ip, "link", "set", name, "addrgenmode", "none")
            run(*ip, "link", "set", name, "up")
            # One congestion control for all machines: some default to BBR, which hardly minds loss.
            run(*ip, "route", "replace", peer, "dev", name, "src", own, "congctl", told["congestion"])
        ways = [Direction(near_device, far_device, told["seed"]), Direction(far_device, near_device, told["seed"] + 1)]
        say(namespace=namespace, near=near, far=far)
        carry(weather, ways)
    finally:
        subprocess.run(["ip", "netns", "delete", namespace], capture_output=True)


def carry(weather, ways):
    told = b""
    while True:
        now = time.monotonic()
        dues = [due for due in (way.next_due() for way in ways) if due is not None]
        rest = max(0.0, min(dues) - now) if dues else None
        ready, _, _ = select.select([0, *(way.source for way in ways)], [], [], rest)
        for way in ways:
            if way.source in ready:
                way.take(weather)
            way.deliver(time.monotonic())
        if 0 in ready:
            read = os.read(0, 4096)
            if not read:
                return
            *lines, told = (told + read).split(b"\n")
            for line in lines:
                if line == b"end":
                    return
                if line == b"counts":
                    say(out=ways[0].counts, back=ways[1].counts)
                else:
                    weather = Weather(json.loads(line))


def echo(address):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as own:
        own.bind((address, 0))
        say(port=own.getsockname()[1])
        while True:
            own.sendto(*own.recvfrom(PACKET))


if __name__ == "__main__":
    if sys.argv[1] == "--echo":
        echo(sys.argv[2])
    else:
        main(json.loads(sys.argv[1]))

#!/usr/bin/env python3
"""Many publishers in one process, on the core of the load: each message of a prepared file is written at its time in one go.

    bench/publishers.py PORT COUNT SECONDS FILE.flv [NAME]

They begin at different moments, as publishers do. Writes `ready` once all are accepted, and at the end one line of JSON: how many connections
were lost, how often a write found the socket's buffer full, and how late the latest write was. NAME: one publisher alone, which notes when
each message had been written.
"""
import gc
import heapq
import json
import os
import select
import sys
import time

import rtmp


def main():
    port, count, seconds, source = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), sys.argv[4]
    names = [sys.argv[5]] if len(sys.argv) > 5 else [f"s{number}" for number in range(count)]
    tags = rtmp.video_and_audio(open(source, "rb").read())
    headers = [tag for tag in tags if rtmp.is_header(tag)]
    tags = [tag for tag in tags if not rtmp.is_header(tag)]
    length = tags[-1].time + 33
    publishers = [rtmp.Publisher("127.0.0.1", port, "live", name, drains=False) for name in names]
    poll = select.epoll()
    sockets = {}
    for publisher in publishers:
        for tag in headers:
            publisher.send_tag(tag)
        publisher.socket.setblocking(False)
        sockets[publisher.socket.fileno()] = publisher.socket
        poll.register(publisher.socket.fileno(), select.EPOLLIN)
    print("ready", flush=True)
    gc.disable()
    chunked, lost, full, latest, sent = {}, 0, 0, 0.0, []
    start = time.monotonic() + 0.1
    # Spread over two seconds, the length of a group of pictures.
    queue = [(start + 2 * number / len(publishers), number, 0) for number in range(len(publishers))]
    began = [at for at, _, _ in queue]
    heapq.heapify(queue)
    while queue:
        at, number, index = heapq.heappop(queue)
        now = time.monotonic()
        if at > now:
            # What servers say (acknowledgements) is read and forgotten.
            for descriptor, _ in poll.poll(at - now):
                try:
                    if not sockets[descriptor].recv(65536):
                        poll.unregister(descriptor)
                except OSError:
                    poll.unregister(descriptor)
            heapq.heappush(queue, (at, number, index))
            continue
        if now - start > seconds:
            break
        latest = max(latest, now - at)
        if index not in chunked:
            tag = tags[index % len(tags)]
            chunked[index] = rtmp.chunks(tag, tag.time + index // len(tags) * length)
        data = chunked[index]
        while data:
            try:
                data = data[sockets[publishers[number].socket.fileno()].send(data):]
            except BlockingIOError:
                full += 1
                select.select([], [publishers[number].socket], [], 5)
            except OSError:
                lost += 1
                break
        else:
            if len(names) == 1:
                tag = tags[index % len(tags)]
                sent.append((time.monotonic(), tag.kind, index % len(tags)))
            following = index + 1
            time_of = tags[following % len(tags)].time + following // len(tags) * length
            heapq.heappush(queue, (began[number] + time_of / 1000, number, following))
        # The slowest publisher is two seconds behind the first.
        chunked.pop(index - 400, None)
    print(json.dumps({"lost": lost, "full": full, "latest_ms": 1000 * latest, "sent": sent}), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()

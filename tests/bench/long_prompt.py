#!/usr/bin/env python3
"""What a long prompt does to those who stream: the time between their tokens, before it comes and while it is read.

    tests/bench/long_prompt.py MBOOLD MODEL [STREAMS [PROMPT_TOKENS [OPTION ...]]]

MODEL takes each byte for a token, as mbool synth makes them (for 8,000 tokens: --shape llama3-8b --layers 2). Prints
percentiles in milliseconds, and a histogram of both."""
import http.client
import json
import re
import subprocess
import sys
import threading
import time

BOUNDS_MS = (10, 20, 40, 60, 80, 100, 125, 150, 175, 200, 250, 300, 500, 1000)


class Stream(threading.Thread):
    def __init__(self, port):
        super().__init__(daemon=True)
        self.connection = http.client.HTTPConnection("127.0.0.1", port)
        self.times = []

    def run(self):
        body = {"prompt": "x", "max_tokens": 4000, "ignore_eos": True, "stream": True, "seed": 1}
        self.connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
        reply = self.connection.getresponse()
        try:
            while True:
                if reply.readline().startswith(b"data: "):
                    self.times.append(time.monotonic())
        except (OSError, ValueError, AttributeError):
            pass  # the daemon is gone: that was all


def gaps(streams, begin, end):
    return sorted(1e3 * (b - a) for s in streams for a, b in zip(s.times, s.times[1:]) if begin <= a and b <= end)


def show(name, ms):
    if not ms:
        print("%-8s nothing was sent" % name)
        return
    print("%-8s n %5d   p50 %6.1f   p90 %6.1f   p99 %6.1f   longest %6.1f ms" % (
        (name, len(ms)) + tuple(ms[min(len(ms) - 1, int(len(ms) * q))] for q in (0.5, 0.9, 0.99, 1))))
    at = 0
    for bound in BOUNDS_MS + (float("inf"),):
        n = sum(1 for x in ms if at <= x < bound)
        if n:
            print("    below %5s ms %6d  %s" % (bound, n, "#" * (1 + 60 * n // len(ms))))
        at = bound


def main():
    mboold, model = sys.argv[1:3]
    n, tokens = (int(sys.argv[i]) if len(sys.argv) > i else default for i, default in ((3, 4), (4, 8000)))
    daemon = subprocess.Popen([mboold, "--model", "m=" + model, "--listen", "127.0.0.1:0", *sys.argv[5:]],
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    port = int(re.search(r"127\.0\.0\.1:(\d+)", daemon.stdout.readline()).group(1))
    streams = [Stream(port) for _ in range(n)]
    for s in streams:
        s.start()
    time.sleep(2)  # they are under way
    begin = time.monotonic()
    time.sleep(3)
    come = time.monotonic()
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("POST", "/v1/completions", json.dumps({"prompt": "y" * tokens, "max_tokens": 1}),
                       {"Content-Type": "application/json"})
    reply = connection.getresponse()
    reply.read()
    end = time.monotonic()
    show("without", gaps(streams, begin, come))
    show("with", gaps(streams, come, end))
    print("a prompt of %d tokens beside %d streams: %d after %.1f s" % (tokens, n, reply.status, end - come))
    daemon.kill()
    daemon.wait()


if __name__ == "__main__":
    main()

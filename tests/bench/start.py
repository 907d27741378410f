#!/usr/bin/env python3
"""How soon a mboold serves after it was started, and what memory it takes for itself.

    tests/bench/start.py BUILD MODEL.mbool [mboold's options]

Prints seconds from the start to /readyz, to the first token of a completion, and of a
second one; and in MiB what the daemon holds beside the mapped file (RssAnon), when it is ready,
after one token, and after a prompt of a thousand, with the part of it that the KV cache is.
"In the page cache" is made sure of by reading the file first.
"""
import http.client
import json
import os
import subprocess
import sys
import time


def rss(pid):
    with open(f"/proc/{pid}/status") as f:
        rows = dict(line.split(":", 1) for line in f)
    return {k: int(rows[k].split()[0]) / 1024 for k in ("RssAnon", "RssFile", "RssShmem")}


def complete(port, n_prompt, n_tokens):
    """Seconds until the answer."""
    body = {"prompt": [40 + i * 37 % 80 for i in range(n_prompt)], "max_tokens": n_tokens,
            "ignore_eos": True, "temperature": 0}
    began = time.monotonic()
    c = http.client.HTTPConnection("127.0.0.1", port)
    c.request("POST", "/v1/completions", json.dumps(body),
              {"Content-Type": "application/json"})
    reply = c.getresponse()
    text = reply.read()
    assert reply.status == 200, text
    return time.monotonic() - began


def ready(port):
    try:
        c = http.client.HTTPConnection("127.0.0.1", port)
        c.request("GET", "/readyz")
        return c.getresponse().status == 200
    except ConnectionError:
        return False


def main():
    if len(sys.argv) < 3:
        sys.exit("usage: start.py BUILD MODEL.mbool [options of mboold]")
    build, model = sys.argv[1:3]
    with open(model, "rb") as f:
        while f.read(1 << 24):
            pass
    began = time.monotonic()
    daemon = subprocess.Popen(
        [f"{build}/server/mboold", "--model", f"m={model}", "--listen", "127.0.0.1:0",
         "--log-level", "warn", *sys.argv[3:]], stdout=subprocess.PIPE, text=True)
    try:
        line = daemon.stdout.readline()
        port = int(line.split("http://127.0.0.1:")[1].split(",")[0])
        while not ready(port):
            time.sleep(0.002)
        at_ready = time.monotonic() - began
        memory = [rss(daemon.pid)]
        complete(port, 1, 1)
        at_first = time.monotonic() - began
        memory.append(rss(daemon.pid))
        second = complete(port, 1, 1)
        complete(port, 1000, 1)
        memory.append(rss(daemon.pid))
        print(f"file: {os.path.getsize(model) / 2**20:.0f} MiB")
        print(f"ready after {at_ready:.3f} s, first token after {at_first:.3f} s, "
              f"another one in {second:.3f} s")
        for when, m in zip(("ready", "one token", "a prompt of 1000"), memory):
            print(f"{when}: " + ", ".join(f"{k} {v:.1f} MiB" for k, v in m.items()))
    finally:
        daemon.terminate()
        daemon.wait()


if __name__ == "__main__":
    main()

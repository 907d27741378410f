#!/usr/bin/env python3
"""Goal:   under a crowd that does everything at once and leaves at random, nothing leaks, nothing is stuck, and who
        stays gets the bytes that the same request gets alone (A1).
Method: each kind of request is first answered alone. Then threads ask for them, of several keys, whole
        and streamed, and cut some short by ends and resets; answers are compared byte for byte.
        At the end slots, queue and KV cache are empty, descriptors back, and memory has a bound. It lasts
        MB_MIX_SECONDS (5), with MB_MIX_CLIENTS (16).
Usage:  test_mix.py MBOOL MBOOLD MAKE_FOLDER"""
import http.client
import json
import os
import random
import re
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

MBOOL, MBOOLD, MAKE_FOLDER = sys.argv[1:4]
SECONDS = float(os.environ.get("MB_MIX_SECONDS", "5"))
CLIENTS = int(os.environ.get("MB_MIX_CLIENTS", "16"))
TEMPLATE = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
checks = failed = 0
lock = threading.Lock()


def check(ok, *what):
    global checks, failed
    with lock:
        checks += 1
        if not ok:
            failed += 1
            if failed < 20:
                print("FAILED", *what)


def make_model(directory):
    folder, model = os.path.join(directory, "float"), os.path.join(directory, "tiny.mbool")
    subprocess.run([MAKE_FOLDER, folder], check=True, stdout=subprocess.DEVNULL)
    for name, more in (("config.json", {"max_position_embeddings": 4096}),
                       ("tokenizer_config.json", {"chat_template": TEMPLATE})):
        with open(os.path.join(folder, name)) as f:
            content = json.load(f)
        with open(os.path.join(folder, name), "w") as f:
            json.dump(dict(content, **more), f)
    subprocess.run([MBOOL, "convert", folder, "-o", model, "--kernels", "2", "--group", "32"], check=True,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return model


SYSTEM = "You are told the same by everybody, at some length. " * 8
CHAT = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": "Well?"}]
SAMPLED = {"seed": 3, "temperature": 1.2, "ignore_eos": True}
KINDS = [
    ("/v1/completions", dict(SAMPLED, prompt="Once", max_tokens=60)),
    ("/v1/completions", dict(SAMPLED, prompt="Once", max_tokens=200, stream=True)),
    ("/v1/completions", dict(SAMPLED, prompt=["a", "bc", SYSTEM], max_tokens=20, n=2, logprobs=2)),
    ("/v1/completions", dict(SAMPLED, prompt=SYSTEM + "x", max_tokens=1, echo=True, logprobs=1)),
    ("/v1/completions", dict(SAMPLED, prompt=SYSTEM * 4, max_tokens=30, stream=True, priority="low")),
    ("/v1/completions", dict(SAMPLED, prompt="x", max_tokens=50, best_of=3, stop=["e"], cache_salt="s")),
    ("/v1/chat/completions", dict(SAMPLED, messages=CHAT, max_tokens=40)),
    ("/v1/chat/completions", dict(SAMPLED, messages=CHAT, max_tokens=90, stream=True, logprobs=True, top_logprobs=2)),
    ("/v1/chat/completions", {"messages": CHAT, "max_tokens": 60, "seed": 1,
                              "response_format": {"type": "json_object"}}),
    ("/v1/embeddings", {"input": ["x", SYSTEM, "yes"]}),
    ("/tokenize", {"prompt": SYSTEM * 20}),
    ("/v1/completions", {"prompt": 7}),
    ("/v1/completions", {"prompt": "x", "max_tokens": 100000}),
]


def same(text):
    """What of an answer does not differ from one time to the next: not ids, times, pings, and what was cached."""
    return re.sub(rb'"(id|created|cached_tokens)":\s*("[^"]*"|\d+)|^:\n\n', b"", text, flags=re.M)


class Daemon:
    def __init__(self, model, directory):
        keys, self.log = os.path.join(directory, "keys"), os.path.join(directory, "log")
        with open(keys, "w") as f:
            for name in "abc":
                line = subprocess.run([MBOOLD, "--hash-key", name], input=name * 40, text=True, check=True,
                                      capture_output=True).stdout
                f.write(line.replace(" sha256", " priority=low sha256") if name == "c" else line)
        self.process = subprocess.Popen(
            [MBOOLD, "--model", "tiny=" + model, "--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0", "--no-pin",
             "--threads", "2", "--kv-memory", "2M", "--keys", keys, "--max-sequences", "8", "--queue-requests", "512",
             "--drain-timeout", "100", "--ping-interval", "0.1"],
            stdout=subprocess.PIPE, stderr=open(self.log, "w"), text=True)
        self.port, self.ops = map(int, re.findall(r"127\.0\.0\.1:(\d+)", self.process.stdout.readline()))

    def connect(self):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=300)

    def send(self, connection, kind, key):
        path, body = KINDS[kind]
        connection.request("POST", path, json.dumps(body),
                           {"Content-Type": "application/json", "Authorization": "Bearer " + key * 40})

    def metric(self, name):
        c = http.client.HTTPConnection("127.0.0.1", self.ops, timeout=60)
        c.request("GET", "/metrics")
        found = re.search(r"^%s (\S+)$" % re.escape(name), c.getresponse().read().decode(), re.M)
        c.close()
        return float(found.group(1)) if found else 0.0

    def becomes(self, name, value):
        end = time.time() + 60
        while self.metric(name) != value and time.time() < end:
            time.sleep(0.02)
        check(self.metric(name) == value, name, "is", self.metric(name))

    def descriptors(self):
        return len(os.listdir("/proc/%d/fd" % self.process.pid))

    def anonymous_kib(self):
        with open("/proc/%d/status" % self.process.pid) as f:
            return int(re.search(r"RssAnon:\s+(\d+)", f.read()).group(1))


def client(daemon, number, wanted, end, counts):
    random_ = random.Random(number)
    connection = daemon.connect()
    while time.time() < end[0]:
        kind, leaves = random_.randrange(len(KINDS)), random_.random()
        try:
            daemon.send(connection, kind, "abc"[number % 3])
            if leaves < 0.3:  # at once, or in the middle; by an end or a reset
                time.sleep(random_.random() * 0.05 if leaves < 0.2 else 0)
                if leaves < 0.1:
                    connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                elif leaves < 0.15:
                    connection.sock.recv(100)
                connection.close()
                counts["left"] += 1
                continue
            reply = connection.getresponse()
            text = reply.read()
        except OSError as e:
            check(False, "a request was cut:", KINDS[kind][0], repr(e))
            connection.close()
            continue
        if reply.status == 429:
            counts["refused"] += 1
            time.sleep(0.05)
            continue
        check((reply.status, same(text)) == wanted[kind], "client", number, "kind", kind, reply.status, text[-300:],
              "not", wanted[kind][1][-300:])
        counts["answered"] += 1
    connection.close()


def crowd(daemon, wanted, seconds):
    """Whoever asks until then; nobody is stuck afterwards."""
    counts = {"answered": 0, "left": 0, "refused": 0}
    end = [time.time() + seconds]
    threads = [threading.Thread(target=client, args=(daemon, i, wanted, end, counts)) for i in range(CLIENTS)]
    for t in threads:
        t.start()
    for i in range(int(seconds // 10)):  # of a long run, so that a leak shows as a slope
        time.sleep(10)
        print("after %d s: %d KiB" % ((i + 1) * 10, daemon.anonymous_kib()), flush=True)
    for t in threads:
        t.join(seconds + 250)
    check(not any(t.is_alive() for t in threads), "a request is stuck")
    for name in ("mboold_requests_running", "mboold_requests_waiting", "mboold_kv_used_ratio"):
        daemon.becomes(name, 0)
    return counts


def main():
    with tempfile.TemporaryDirectory() as directory:
        daemon = Daemon(make_model(directory), directory)
        try:
            wanted = []
            for kind in range(len(KINDS)):
                connection = daemon.connect()
                daemon.send(connection, kind, "a")
                reply = connection.getresponse()
                wanted.append((reply.status, same(reply.read())))
                check(reply.status in (200, 400), KINDS[kind], wanted[-1])
                connection.close()
            crowd(daemon, wanted, min(2, SECONDS / 2))  # what is held for good is held from now on
            time.sleep(1.5)
            before, kib = daemon.descriptors(), daemon.anonymous_kib()
            counts = crowd(daemon, wanted, SECONDS)
            limit = time.time() + 20
            while daemon.descriptors() > before and time.time() < limit:
                time.sleep(0.1)
            check(daemon.descriptors() <= before, "descriptors:", before, "then", daemon.descriptors())
            grown = daemon.anonymous_kib() - kib
            check(grown < 49152 or "MB_SANITIZED" in os.environ, "memory grew by", grown, "KiB")
            print("%g s, %d clients: %s; %+d KiB" % (SECONDS, CLIENTS, counts, grown))
            check(counts["answered"] > 0 and counts["left"] > 0, counts)
            daemon.process.send_signal(signal.SIGTERM)
            text = open(daemon.log).read()
            check(daemon.process.wait(120) == 0, "exit status", daemon.process.returncode, text[-2000:])
            for never in ("Sanitizer", "runtime error", "Fatal error in", "API violation"):
                check(never not in open(daemon.log).read(), never)
        finally:
            if daemon.process.poll() is None:
                daemon.process.kill()
    print("CHECKS %d RUN %d FAILED" % (checks, failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

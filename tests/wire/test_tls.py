#!/usr/bin/env python3
"""Goal:   by TLS the daemon says what it says without, notices who leaves in every state, and lets nobody hold a
        connection without a handshake; certificates change while streams run; what is wrong with a file is said.
Method: the same questions to a daemon with TLS and to one without; sockets of every kind of bad manners, and the
        port for operations to look at what is left; the files of the certificate written over.
Usage:  test_tls.py MBOOL MBOOLD MAKE_FOLDER"""
import http.client
import json
import os
import re
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import time
import warnings

MBOOL, MBOOLD, MAKE_FOLDER = sys.argv[1:4]
CONTEXT = 65536
LONG = {"prompt": "x", "max_tokens": 60000, "ignore_eos": True}
checks = failed = 0


def check(ok, *what):
    global checks, failed
    checks += 1
    if not ok:
        failed += 1
        print("FAILED", *what)


def make_model(directory):
    folder, model = os.path.join(directory, "float"), os.path.join(directory, "tiny.mbool")
    subprocess.run([MAKE_FOLDER, folder], check=True, stdout=subprocess.DEVNULL)
    with open(os.path.join(folder, "config.json")) as f:
        content = json.load(f)
    with open(os.path.join(folder, "config.json"), "w") as f:
        json.dump(dict(content, max_position_embeddings=CONTEXT), f)
    subprocess.run([MBOOL, "convert", folder, "-o", model, "--kernels", "2", "--group", "32"], check=True,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return model


def make_certificate(directory, name, kind=("rsa:2048",)):
    cert, key = os.path.join(directory, name + ".pem"), os.path.join(directory, name + ".key")
    subprocess.run(["openssl", "req", "-x509", "-nodes", "-newkey", *kind, "-keyout", key, "-out", cert, "-subj",
                    "/CN=" + name, "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-days", "30"], check=True,
                   stderr=subprocess.DEVNULL)
    return cert, key


CA = """[ca]
default_ca = it
[it]
database = index
rand_serial = yes
new_certs_dir = .
default_md = sha256
policy = any
[any]
commonName = supplied
"""


def make_expired(directory):
    """A certificate of a day in 2020: only the command that acts as an authority takes dates."""
    for name, text in (("ca.conf", CA), ("index", "")):
        with open(os.path.join(directory, name), "w") as f:
            f.write(text)
    for command in (["req", "-new", "-nodes", "-newkey", "rsa:2048", "-keyout", "expired.key", "-out", "expired.csr",
                     "-subj", "/CN=expired"],
                    ["ca", "-config", "ca.conf", "-selfsign", "-keyfile", "expired.key", "-in", "expired.csr", "-out",
                     "expired.pem", "-startdate", "20200101000000Z", "-enddate", "20200102000000Z", "-batch", "-notext"]):
        subprocess.run(["openssl", *command], check=True, cwd=directory, stderr=subprocess.DEVNULL)
    return os.path.join(directory, "expired.pem"), os.path.join(directory, "expired.key")


class Daemon:
    def __init__(self, model, directory, pair=None, *flags):
        self.log = os.path.join(directory, "log")
        tls = ["--tls-cert", pair[0], "--tls-key", pair[1]] if pair else []
        self.process = subprocess.Popen(
            [MBOOLD, "--model", "tiny=" + model, "--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0",
             "--no-pin", "--threads", "2", "--kv-memory", "64M", "--header-timeout", "2", "--body-timeout", "2",
             "--idle-timeout", "4", *tls, *flags],
            stdout=subprocess.PIPE, stderr=open(self.log, "w"), text=True)
        line = self.process.stdout.readline()
        ports = re.findall(r"127\.0\.0\.1:(\d+)", line)
        if len(ports) != 2:
            raise RuntimeError("mboold did not start: " + open(self.log).read())
        check(("https://" in line) == (pair is not None), line)
        self.port, self.ops = map(int, ports)
        self.context = ssl.create_default_context(cafile=pair[0]) if pair else None

    def socket(self):
        return socket.create_connection(("127.0.0.1", self.port), timeout=60)

    def open(self, context=None):
        return (context or self.context).wrap_socket(self.socket(), server_hostname="localhost")

    def ask(self, path, body=None):
        c = (http.client.HTTPSConnection("localhost", self.port, timeout=60, context=self.context) if self.context else
             http.client.HTTPConnection("localhost", self.port, timeout=60))
        c.request("POST" if body else "GET", path, json.dumps(body) if body else None,
                  {"Content-Type": "application/json"} if body else {})
        reply = c.getresponse()
        return reply.status, reply.read()

    def metric(self, name):
        c = http.client.HTTPConnection("127.0.0.1", self.ops, timeout=60)
        c.request("GET", "/metrics")
        found = re.search(r"^%s (\S+)$" % re.escape(name), c.getresponse().read().decode(), re.M)
        return float(found.group(1)) if found else 0.0

    def becomes(self, name, value, what):
        end = time.time() + 30
        while self.metric(name) != value and time.time() < end:
            time.sleep(0.01)
        check(self.metric(name) == value, what, name, self.metric(name), "is not", value)

    def descriptors(self):
        return len(os.listdir("/proc/%d/fd" % self.process.pid))

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(60)
        text = open(self.log).read()
        check(status == 0, "exit status", status, text[-2000:])
        for never in ("Sanitizer", "runtime error", "Fatal error in", "API violation"):
            check(never not in text, never, text[-2000:])

    def reload(self, said):
        before = len(open(self.log).read())
        self.process.send_signal(signal.SIGHUP)
        end = time.time() + 30
        while "event=reload" not in open(self.log).read()[before:] and time.time() < end:
            time.sleep(0.01)
        text = open(self.log).read()[before:]
        check(said in text, "reload says", text)


def post(path, body):
    text = json.dumps(body).encode()
    return b"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % (
        path.encode(), len(text)) + text


def read_until(s, want):
    got = b""
    while want not in got:
        piece = s.recv(65536)
        if not piece:
            break
        got += piece
    return got


def reset(s):
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    s.close()


def test_same_answers(tls, plain):
    questions = [("/v1/completions", {"prompt": "Once", "max_tokens": 40, "seed": 7, "logprobs": 2}),
                 ("/v1/completions", {"prompt": "Once", "max_tokens": 300, "seed": 7, "stream": True}),
                 ("/v1/embeddings", {"input": "x" * 500}),
                 ("/tokenize", {"prompt": "long " * 800000}),  # 4 MB there, more back
                 ("/v1/completions", {"prompt": "x", "n": -1})]
    for path, body in questions:
        answers = []
        for d in (tls, plain):
            status, text = d.ask(path, body)
            answers.append((status, re.sub(rb'"(id|created)":("[^"]*"|\d+)', b"", text)))
        check(answers[0] == answers[1], path, "differs:", answers[0][1][:200], answers[1][1][:200])


def test_leaving(d):
    """Streams, wholes and those that wait; by a proper end, an end without one, and a reset."""
    def properly(s):
        s.settimeout(5)
        try:
            s.unwrap()
        except (OSError, ssl.SSLError):
            pass
        s.close()

    before = d.descriptors()
    for way in (properly, lambda s: s.close(), reset):
        for stream in (True, False):
            sockets = []
            for _ in range(3):
                s = d.open()
                s.sendall(post("/v1/completions", dict(LONG, stream=stream)))
                sockets.append(s)
            if stream:
                read_until(sockets[0], b"data: {")
            d.becomes("mboold_requests_running", 2, "two run")
            for s in sockets:
                way(s)
            d.becomes("mboold_requests_running", 0, "they left")
            d.becomes("mboold_requests_waiting", 0, "they left")
    end = time.time() + 10
    while d.descriptors() > before and time.time() < end:
        time.sleep(0.05)
    check(d.descriptors() <= before, "descriptors", d.descriptors(), before)


def test_slow(d):
    """Who does not read its stream holds up nobody, and is closed; the others get theirs."""
    slow = d.open()
    slow.sendall(post("/v1/completions", dict(LONG, stream=True)))
    status, text = d.ask("/v1/completions", {"prompt": "Once", "max_tokens": 500, "stream": True})
    check(status == 200 and text.rstrip().endswith(b"[DONE]"), "a stream beside a slow one", text[-200:])
    d.becomes("mboold_requests_running", 0, "who does not read is closed")
    slow.close()


def closes(s, seconds):
    s.settimeout(seconds)
    try:
        while s.recv(4096):
            pass
        return True
    except TimeoutError:
        return False
    except OSError:
        return True


def test_manners(d):
    half = d.open()
    half.sendall(b"GET /version HTTP/1.1\r\nHost: loc")
    body = d.open()
    body.sendall(post("/v1/completions", {"prompt": "Once"})[:-3])
    silent, hello, plain = d.socket(), d.socket(), d.socket()
    hello.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
    plain.sendall(b"GET /version HTTP/1.1\r\nHost: localhost\r\n\r\n")
    check(closes(plain, 10), "plain HTTP is not closed")
    for s in (half, body):
        check(read_until(s, b"request_timeout").startswith(b"HTTP/1.1 408 "), "no 408 by TLS")
    check(closes(silent, 10) and closes(hello, 10), "a connection without a handshake stays")
    idle = d.open()
    idle.sendall(b"GET /version HTTP/1.1\r\nHost: localhost\r\n\r\n")
    check(b"0.1.0" in read_until(idle, b"}"), "no version")
    check(closes(idle, 15), "an idle connection stays")
    for junk in (b"\x00" * 200, os.urandom(3000), b"\x15\x03\x03\x00\x02\x02\x28", b"\x80\x2e\x01\x00\x02"):
        s = d.socket()
        s.sendall(junk)
        check(closes(s, 10), "junk is not closed")
    check(d.ask("/version")[0] == 200, "the daemon after all that")


def test_versions(d):
    warnings.simplefilter("ignore", DeprecationWarning)  # that this is old is the point
    for version, good in ((ssl.TLSVersion.TLSv1_1, False), (ssl.TLSVersion.TLSv1_2, True),
                          (ssl.TLSVersion.TLSv1_3, True)):
        context = ssl.create_default_context(cafile=d.pair[0])
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.minimum_version = context.maximum_version = version
        try:
            d.open(context).close()
            check(good, version, "is taken")
        except (ssl.SSLError, OSError) as e:
            check(not good, version, "is refused", e)


def shown(d, context):
    s = d.open(context)
    der = s.getpeercert(binary_form=True)
    s.close()
    return der


def test_reload(d, directory, first, second):
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    stream = d.open()
    stream.sendall(post("/v1/completions", dict(LONG, stream=True)))
    read_until(stream, b"data: {")
    before = shown(d, context)
    stop = threading.Event()
    trouble = []

    def crowd():
        while not stop.is_set():
            try:
                d.open(context).close()
            except OSError as e:
                trouble.append(e)

    thread = threading.Thread(target=crowd)
    thread.start()
    for from_, to in zip(second, first):
        shutil.copy(from_, to)
    d.reload("the certificate")
    for _ in range(20):
        d.reload("the certificate")
    stop.set()
    thread.join()
    check(not trouble, "handshakes while files change", trouble[:3])
    after = shown(d, context)
    check(before != after, "the certificate is the old one")
    check(b"data: {" in read_until(stream, b"data: {"), "the stream ended")
    with open(first[0], "w") as f:
        f.write("nothing")
    d.reload("tls-cert: '%s'" % first[0])
    check(shown(d, context) == after, "a broken file was taken")
    stream.close()
    shutil.copy(second[0], first[0])


def refused(model, why, *flags):
    run = subprocess.run([MBOOLD, "--model", "tiny=" + model, "--check-config", *flags], capture_output=True, text=True)
    check(run.returncode != 0 and why in run.stderr, flags, "says", run.stderr)


def test_files(model, directory, pair, other):
    refused(model, "tls-cert: '/nowhere'", "--tls-cert", "/nowhere", "--tls-key", pair[1])
    refused(model, "tls-key: '/nowhere'", "--tls-cert", pair[0], "--tls-key", "/nowhere")
    refused(model, "tls-cert: '%s'" % pair[1], "--tls-cert", pair[1], "--tls-key", pair[1])
    refused(model, "tls-key: '%s'" % pair[0], "--tls-cert", pair[0], "--tls-key", pair[0])
    refused(model, pair[0], "--tls-cert", pair[0], "--tls-key", other[1])
    refused(model, "tls-cert: '%s'" % directory, "--tls-cert", directory, "--tls-key", pair[1])
    refused(model, "one is of no use alone", "--tls-cert", pair[0])
    expired = make_expired(directory)
    run = subprocess.run([MBOOLD, "--model", "tiny=" + model, "--check-config", "--tls-cert", expired[0], "--tls-key",
                          expired[1]], capture_output=True, text=True)
    check(run.returncode == 0 and expired[0] in run.stderr and "since 2020-01-02" in run.stderr, run.stderr)


def test_programs(d):
    flags = ["--listen", "127.0.0.1:%d" % d.port, "--tls-cert", d.pair[0], "--tls-key", d.pair[1]]
    run = subprocess.run([MBOOLD, "--check-health", "--ops-listen", "", *flags], capture_output=True, text=True)
    check("404" in run.stderr, "health by TLS", run.stderr)  # it is on the other port
    url = "https://localhost:%d" % d.port
    for ca, good in ((d.pair[0], True), ("", False)):
        env = dict(os.environ, MBOOL_CACERT=ca)
        run = subprocess.run([MBOOL, "models", "--host", url], capture_output=True, text=True, env=env)
        check((run.returncode == 0 and "tiny" in run.stdout) == good, "mbool models:", run.stdout, run.stderr)


def main():
    if not shutil.which("openssl"):
        print("SKIPPED the program openssl is not here\nCHECKS 1 RUN 0 FAILED")
        return 77
    with tempfile.TemporaryDirectory() as directory:
        model = make_model(directory)
        pair, other = make_certificate(directory, "one"), make_certificate(directory, "two", kind=(
            "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"))
        plain = Daemon(model, directory)
        tls = Daemon(model, directory, pair, "--max-sequences", "2")
        tls.pair = pair
        try:
            test_same_answers(tls, plain)
            plain.stop()
            test_leaving(tls)
            test_slow(tls)
            test_manners(tls)
            test_versions(tls)
            test_programs(tls)
            test_reload(tls, directory, pair, other)
            test_files(model, directory, other, (pair[0], make_certificate(directory, "three")[1]))
            tls.stop()
        finally:
            for d in (plain, tls):
                if d.process.poll() is None:
                    d.process.kill()
    print("CHECKS %d RUN %d FAILED" % (checks, failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""mbool as a client, from outside.

Goal:   run, chat, complete, models, ps and bench --url do what their help says, against a whole
        daemon; chats also with what goes wrong on the way.
Method: a small random model served by mboold; chats against a stub that speaks OpenAI's
        protocol and says back what it was sent, cut into pieces of odd sizes. Interactive chats on a
        pseudo-terminal.

    test_client.py MBOOL MBOOLD MAKE_FOLDER
"""
import http.server
import json
import os
import pty
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time

MBOOL, MBOOLD, MAKE_FOLDER = sys.argv[1:4]
run = failed = 0


def check(name, ok, detail=""):
    global run, failed
    run += 1
    if not ok:
        failed += 1
        print(f"FAILED {name} {detail}", flush=True)


class Stub(http.server.BaseHTTPRequestHandler):
    """Answers a chat with "n: last message", n the messages it got; some messages have it fail."""

    protocol_version = "HTTP/1.1"
    seen = []

    def log_message(self, *args):
        pass

    def refuse(self, status, code, message="refused"):
        body = json.dumps({"error": {"message": message, "code": code}}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if status == 503:
            self.send_header("Retry-After", "7")
        self.end_headers()
        self.wfile.write(body)

    def chunk(self, data):
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        Stub.seen.append((self.path, body, self.headers.get("Authorization")))
        if self.path != "/v1/chat/completions":
            return self.refuse(404, "not_found")
        messages = body["messages"]
        last = messages[-1]["content"]
        if last == "busy":
            return self.refuse(503, "overloaded", "too much")
        if len(messages) > 4:
            return self.refuse(400, "context_length_exceeded")
        text = f"{len(messages)}: {last} \u00e4\x1b[31m"
        stream = ": ping\n\n" + "".join(
            "data: " + json.dumps({"model": "stub", "choices": [{"delta": {"content": c}}]}) + "\n\n"
            for c in text)
        stream += 'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\n'
        stream += 'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":9}}\n\n'
        if last == "error":
            stream += 'data: {"error":{"message":"it broke"}}\n\n'
        elif last != "cut":
            stream += "data: [DONE]\n\n"
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        raw = stream.encode()
        for i in range(0, len(raw), 37):
            self.chunk(raw[i:i + 37])
        if last == "wait":
            time.sleep(3)
        self.wfile.write(b"0\r\n\r\n")


def mbool(*arguments, host=None, text=None, key=None):
    environment = dict(os.environ, http_proxy="")
    environment.pop("MBOOL_API_KEY", None)
    if host:
        environment["MBOOL_HOST"] = host
    if key:
        environment["MBOOL_API_KEY"] = key
    p = subprocess.run([MBOOL, *arguments], input=text, stdin=None if text else subprocess.DEVNULL,
                       capture_output=True, text=True, timeout=120, env=environment)
    return p.returncode, p.stdout, p.stderr


def start_daemon(path, *flags):
    p = subprocess.Popen([MBOOLD, "--model", "tiny=" + path, "--listen", "127.0.0.1:0", "--no-pin", *flags],
                         stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    line = p.stdout.readline()
    return p, line.split("http://")[1].split(",")[0]


def test_daemon(host, path):
    status, out, _ = mbool("models", host=host)
    check("models", status == 0 and "tiny" in out and "mbool-" in out, out)
    status, out, _ = mbool("models", "--json", "--host", host)
    check("models --json", status == 0 and json.loads(out)["data"][0]["id"] == "tiny", out)

    status, plain, _ = mbool("complete", "tiny", "the man", "--max-tokens", "8", "--seed", "3",
                             "--ignore-eos", host=host)
    check("complete", status == 0 and len(plain) > 1, plain)
    status, out, _ = mbool("complete", "tiny", "--max-tokens", "8", "--seed", "3", "--ignore-eos",
                           "--json", host=host, text="the man\n")
    got = json.loads(out)
    check("complete --json, from standard input", got["text"] + "\n" == plain, out)
    check("complete counts", got["completion_tokens"] == 8 and got["finish_reason"] == "length", out)
    _, local, _ = mbool("generate", path, "--prompt", "the man", "--max-tokens", "8", "--seed", "3",
                        "--ignore-eos")
    check("the daemon says what generate says (A1)", local == plain, repr((local, plain)))

    status, out, err = mbool("complete", "nobody", "x", host=host)
    check("an unknown model", status == 1 and "no model 'nobody'" in err and not out, err)
    status, out, err = mbool("complete", "tiny", "x", host="127.0.0.1:1")
    check("no daemon", status == 1 and "127.0.0.1:1" in err, err)
    status, _, err = mbool("complete", "tiny", "x", host="ftp://x")
    check("no such scheme", status == 1 and "scheme" in err, err)

    status, out, _ = mbool("ps", "--interval", "0.1", "--json", host=host)
    state = json.loads(out)
    check("ps --json", status == 0 and state["ready"] and state["requests_running"] == 0, out)
    check("ps counts tokens", state["generated_tokens"] >= 16, out)
    check("ps names the model", state["models"][0]["id"] == "tiny", out)
    status, out, _ = mbool("ps", "--interval", "0.1", host=host)
    check("ps", status == 0 and "ready" in out and "tiny" in out, out)


def test_load(host):
    status, out, _ = mbool("bench", "tiny", "--url", host, "--requests", "20", "--clients", "3",
                           "--prompt", "8", "--max-tokens", "4", "--json")
    got = json.loads(out)
    check("bench --url", status == 0 and got["done"] == 20 and got["failed"] == 0, out)
    check("it counts tokens", got["generated_tokens_per_s"] > 0 and got["first_token"]["count"] == 20, out)
    check("percentiles ascend", 0 < got["total"]["p50_s"] <= got["total"]["p99_s"] <= got["total"]["max_s"], out)
    status, out, _ = mbool("bench", "tiny", "--url", host, "--rate", "100", "--requests", "50",
                           "--prompt", "4", "--max-tokens", "2", "--json", "--seed", "5")
    got = json.loads(out)
    # 50 arrivals take 0.5 s in the mean, with a deviation of 0.07; a busy machine adds to that.
    check("an open loop keeps its rate", got["done"] == 50 and got["seconds"] > 0.2 and
          got["loop"] == "open", out)
    status, out, err = mbool("bench", "nobody", "--url", host, "--requests", "3", "--json")
    check("errors by kind", status == 1 and json.loads(out)["errors"] == {"404": 3}, out + err)
    status, _, _ = mbool("bench", "tiny", "--rate", "3")
    check("--rate without --url", status == 2)


def make_version(folder, path):
    """Another version of the model at path, the daemon's flag for it, and its file."""
    other, delta = folder + "/other.mbool", folder + "/other.delta"
    subprocess.run([MBOOL, "convert", folder + "/float", "-o", other, "--group", "32", "--init", "random"],
                   check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    subprocess.run([MBOOL, "delta", "make", path, other, "-o", delta], check=True, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL)
    return "--epoch=ft:tiny:x=tiny+" + delta, other


def test_epochs(host, path, other):
    say = ("tiny", "the man", "--max-tokens", "8", "--seed", "3", "--ignore-eos")
    of_file = [mbool("generate", f, "--prompt", *say[1:])[1] for f in (path, other)]
    check("the versions differ", of_file[0] != of_file[1], of_file)
    status, out, err = mbool("epochs", "tiny", host=host)
    check("epochs", status == 0 and "other.delta" in out and "ft:tiny:x" in out and "\n* " in out, out + err)
    made = os.path.dirname(path) + "/made.mbool"
    status, out, err = mbool("export", "ft:tiny:x", "-o", made, host=host)
    check("export", status == 0 and open(made, "rb").read() == open(other, "rb").read(), out + err)
    status, _, err = mbool("export", "nobody", "-o", made + "2", host=host)
    check("export of no model", status == 1 and "nobody" in err and not os.path.exists(made + "2"), err)
    status, _, err = mbool("export", "tiny", "-o", "/nowhere/x", host=host)
    check("export to nowhere", status == 1 and "/nowhere" in err, err)
    check("export without a file", mbool("export", "tiny", host=host)[0] == 2)
    before, version = [e["id"] for e in json.loads(mbool("epochs", "tiny", "--json", host=host)[1])["data"]]
    status, out, err = mbool("rollback", "tiny", host=host)
    check("nothing to roll back to", status == 1 and "no other epoch" in err, err)
    status, out, _ = mbool("promote", "tiny", "--to", "ft:tiny:x", host=host)
    check("promote", status == 0 and out == f"tiny is {version} now; it was {before}\n", out)
    check("it says what the version says", mbool("complete", *say, host=host)[1] == of_file[1])
    status, out, _ = mbool("promote", "tiny", "--to", version, host=host)
    check("promote to what it is", status == 0 and out == f"tiny is {version} already\n", out)
    status, out, _ = mbool("ps", "--interval", "0.1", host=host)
    check("ps shows the epoch", version in out, out)
    status, out, _ = mbool("rollback", "tiny", "--json", host=host)
    check("rollback", status == 0 and json.loads(out)["epoch"] == before, out)
    check("it says what the checkpoint says", mbool("complete", *say, host=host)[1] == of_file[0])
    status, out, _ = mbool("pin", "tiny", host=host)
    check("pin", status == 0 and out == f"tiny is pinned at {before}\n", out)
    check("epochs says so", "pinned:" in mbool("epochs", "tiny", host=host)[1])
    check("pin --off", mbool("pin", "tiny", "--off", host=host)[1] == f"tiny is not pinned at {before}\n")
    for line, why in ((("promote", "tiny"), "--to"), (("promote", "a b", "--to", "tiny"), "no name"),
                      (("promote", "tiny", "--to", "a b"), "--to"), (("epochs",), "model"), (("pin", "../x?"), "name")):
        status, out, err = mbool(*line, host=host)
        check("a wrong line", status == 2 and why in err, (line, err))
    status, out, err = mbool("promote", "tiny", "--to", "nobody", host=host)
    check("a version that is not there", status == 1 and "'nobody' is no model" in err, err)


def test_run(host, path):
    status, out, _ = mbool("run", path, "the man", "--max-tokens", "4", "--ignore-eos", "--json",
                           host="127.0.0.1:1")
    check("run starts a daemon", status == 0 and json.loads(out)["completion_tokens"] == 4, out)
    status, out, _ = mbool("run", path, "the man", "--max-tokens", "4", "--json", "--mboold",
                           "/nowhere", host=host)
    check("run finds a daemon", status == 0 and json.loads(out)["model"] == "tiny", out)
    status, _, err = mbool("run", path, "x", "--mboold", "/nowhere", host="127.0.0.1:1")
    check("run says why there is no daemon", status == 1 and "/nowhere: No such file" in err, err)
    status, _, err = mbool("run", path + ".mbool", "x", host="127.0.0.1:1")
    check("run misses a file", status == 1 and "No such file" in err, err)
    left = subprocess.run(["pgrep", "-f", "mboold --model .*" + path + " --listen 127.0.0.1:0 --log"],
                          capture_output=True, text=True).stdout
    check("run leaves no daemon behind", not left, left)


def test_chat(host):
    status, out, _ = mbool("chat", "m", "hello", "--system", "be brief", host=host, key="s3")
    check("chat", status == 0 and out == "2: hello \u00e4\x1b[31m\n", repr(out))
    path, body, key = Stub.seen[-1]
    check("what it sends", path == "/v1/chat/completions" and body["model"] == "m" and
          body["messages"][0] == {"role": "system", "content": "be brief"}, str(body))
    check("the key is sent", key == "Bearer s3", str(key))
    status, out, _ = mbool("chat", "m", "--json", "--temperature", "0.5", host=host, text="a\nb\n")
    check("chat --json", json.loads(out)["text"].startswith("1: a\nb ") and
          Stub.seen[-1][1]["temperature"] == 0.5, out)
    status, _, err = mbool("chat", "m", "error", host=host)
    check("an error within the stream", status == 1 and "it broke" in err, err)
    status, _, err = mbool("chat", "m", "cut", host=host)
    check("a stream that was cut", status == 1 and "broke off" in err, err)
    status, _, err = mbool("chat", "m", "busy", host=host)
    check("Retry-After is told", status == 1 and "try again in 7 s" in err, err)
    p = subprocess.Popen([MBOOL, "chat", "m", "wait", "--host", host], stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
    p.stdout.read(3)
    p.send_signal(signal.SIGINT)
    _, err = p.communicate(timeout=30)
    check("Ctrl-C", p.returncode == 130 and b"interrupted" in err, repr((p.returncode, err)))


class Terminal:
    def __init__(self, *arguments):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execv(MBOOL, [MBOOL, *arguments])
        self.text = ""

    def read(self):
        """False when it has ended."""
        try:
            self.text += os.read(self.fd, 4096).decode()
            return True
        except OSError:
            return False

    def until(self, want):
        end = time.time() + 60
        while want not in self.text and time.time() < end:
            if select.select([self.fd], [], [], 1)[0] and not self.read():
                break
        found = want in self.text
        before, _, self.text = self.text.partition(want)
        return found, before

    def type(self, text):
        os.write(self.fd, text.encode())

    def status(self):
        """Of its end; that of being killed when it does not end."""
        end = time.time() + 60
        while not select.select([self.fd], [], [], 0.1)[0] or self.read():
            if time.time() > end:
                os.kill(self.pid, signal.SIGKILL)
                break
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def test_terminal(host):
    t = Terminal("chat", "m", "--host", host, "--system", "s")
    check("a prompt", t.until(">>> ")[0])
    t.type("one\n")
    found, shown = t.until(">>> ")
    check("an answer", found and "2: one \u00e4" in shown, repr(shown))
    check("no control characters reach a terminal", "\x1b[31m" not in shown, repr(shown))
    t.type("two\\\n")
    check("a line that goes on", t.until("... ")[0])
    t.type("three\n")
    found, shown = t.until(">>> ")
    check("with what was said before", found and Stub.seen[-1][1]["messages"][1]["content"] == "one" and
          Stub.seen[-1][1]["messages"][3]["content"] == "two\nthree", str(Stub.seen[-1]))
    t.type("four\n")
    found, shown = t.until(">>> ")
    check("a full context forgets the oldest", "forgotten" in shown and "4: four" in shown, repr(shown))
    t.type("/clear\n")
    t.until(">>> ")
    t.type("wait\n")
    t.until("2: wait")
    os.kill(t.pid, signal.SIGINT)
    check("Ctrl-C ends an answer", t.until(">>> ")[0])
    t.type("busy\n")
    check("an error does not end the chat", "too much" in t.until(">>> ")[1])
    t.type("\x04")
    check("Ctrl-D leaves", t.status() == 0)
    for _ in range(20):  # a signal between a look at it and a read would be lost
        t = Terminal("chat", "m", "--host", host)
        t.until(">>> ")
        os.kill(t.pid, signal.SIGINT)
        status = t.status()
        check("Ctrl-C between answers leaves", status == 130, str(status))


def main():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Stub)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    stub = f"127.0.0.1:{server.server_address[1]}"
    with tempfile.TemporaryDirectory() as folder:
        path = folder + "/tiny.mbool"
        subprocess.run([MAKE_FOLDER, folder + "/float"], check=True)
        subprocess.run([MBOOL, "convert", folder + "/float", "-o", path, "--group", "32"], check=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        flag, other = make_version(folder, path)
        daemon, host = start_daemon(path, flag)
        try:
            test_daemon(host, path)
            test_epochs(host, path, other)
            test_load(host)
            test_run(host, path)
            test_chat(stub)
            test_terminal(stub)
        finally:
            daemon.terminate()
            check("the daemon ends well", daemon.wait(timeout=60) == 0)
    print(f"CHECKS {run} RUN {failed} FAILED")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

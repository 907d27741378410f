#!/usr/bin/env python3
"""Goal:   files and fine-tuning jobs do what OpenAI's API promises, and survive what goes wrong: a trainer that is
        killed, hangs, runs out of memory or ends without a word, a daemon that is killed, a disk that is full,
        files that are damaged. A job comes to the same bits as one that nobody disturbed.
Method: a real daemon on a tiny model, asked over HTTP. Faults are put into the trainer by MB_TRAINER_FAULT
        (server/trainer/fault.h), into the daemon by SIGKILL and a limit on the size of files. What came of a job
        is known by the epoch that answers.
Usage:  test_jobs.py MBOOL MBOOLD MAKE_FOLDER"""
import http.client
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

checks = failed = 0
PATIENCE_S = 300  # of a machine with better things to do


def check(ok, *what):
    global checks, failed
    checks += 1
    if not ok:
        failed += 1
        print("FAILED", *what, flush=True)


WORDS = "the man and then an old tin hat on a hill that ran in the rain".split()


def lines(n, first=0):
    """Prompts and completions, of words that the tokenizer has."""
    for i in range(first, first + n):
        words = [WORDS[(i * 7 + k * k * 3) % len(WORDS)] for k in range(14)]
        yield json.dumps({"prompt": " ".join(words[:6]), "completion": " " + " ".join(words[6:])}) + "\n"


class Daemon:
    def __init__(self, world, state, *flags, fault=None, file_limit=None):
        self.world, self.log = world, open(os.path.join(world.directory, "log"), "a")
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        env = dict(os.environ)
        env.pop("MB_TRAINER_FAULT", None)
        if fault:
            env["MB_TRAINER_FAULT"] = fault
        limit = (lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, file_limit))) if file_limit else None
        self.process = subprocess.Popen(
            [world.mboold, "--model", "tiny=" + world.model, "--listen", "127.0.0.1:%d" % self.port,
             "--finetune-priority", "normal", "--threads", "1", "--heartbeat-timeout", "600"] +
            (["--state-dir", state] if state else []) + list(flags),
            stdout=subprocess.DEVNULL, stderr=self.log, env=env, preexec_fn=limit)
        for _ in range(PATIENCE_S * 10):
            try:
                self.ask("GET", "/readyz")
                return
            except OSError:
                if self.process.poll() is not None:
                    raise RuntimeError("mboold ended: %s" % self.process.returncode)
                time.sleep(0.1)
        raise RuntimeError("mboold does not answer")

    def ask(self, method, path, body=None, headers=None):
        """(status, headers, document or bytes)"""
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        text = body if isinstance(body, (str, bytes, type(None))) else json.dumps(body)
        c.request(method, path, text, dict({"Content-Type": "application/json"}, **(headers or {})))
        reply = c.getresponse()
        data = reply.read()
        is_json = (reply.headers["Content-Type"] or "").startswith("application/json")
        return reply.status, reply.headers, json.loads(data) if is_json else data

    def upload(self, text, name="train.jsonl", fields=(("purpose", "fine-tune"),)):
        parts = [b'--XX\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % (k.encode(), v.encode())
                 for k, v in fields]
        if text is not None:
            text = text.encode() if isinstance(text, str) else text
            parts.append(b'--XX\r\nContent-Disposition: form-data; name="file"; filename="%s"\r\n'
                         b'Content-Type: application/octet-stream\r\n\r\n%s\r\n' % (name.encode(), text))
        return self.ask("POST", "/v1/files", b"".join(parts) + b"--XX--\r\n",
                        {"Content-Type": "multipart/form-data; boundary=XX"})

    def file(self, text):
        status, _, f = self.upload(text)
        check(status == 200, "upload", status, f)
        return f["id"]

    def job(self, training, headers=None, **more):
        """A job's object; its own options in mbool."""
        return self.ask("POST", "/v1/fine_tuning/jobs", dict({"model": "tiny", "training_file": training}, **more),
                        headers)

    def start(self, training, **more):
        status, _, job = self.job(training, **more)
        check(status == 200, "create", status, job)
        return job["id"]

    def look(self, job):
        return self.ask("GET", "/v1/fine_tuning/jobs/" + job)[2]

    def wait(self, job, *statuses):
        """Until it has one of these; the job."""
        for _ in range(PATIENCE_S * 20):
            j = self.look(job)
            if j["status"] in statuses:
                return j
            if j["status"] in ("failed", "succeeded", "cancelled"):
                break
            time.sleep(0.05)
        check(False, "job", job, "is not", statuses, "but", j)
        return j

    def events(self, job):
        """All of them, oldest first."""
        ret, after = [], ""
        while True:
            page = self.ask("GET", "/v1/fine_tuning/jobs/%s/events?limit=100%s" % (job, after))[2]
            ret += page["data"]
            if not page["has_more"]:
                return ret[::-1]
            after = "&after=" + ret[-1]["id"]

    def wait_event(self, job, text):
        for _ in range(PATIENCE_S * 20):
            if any(text in e["message"] for e in self.events(job)):
                return
            time.sleep(0.05)
        check(False, "no event", text, [e["message"] for e in self.events(job)][-5:])

    def epoch(self, model):
        """Which one answers."""
        status, headers, reply = self.ask("POST", "/v1/completions", {"model": model, "prompt": "the man",
                                                                      "max_tokens": 2})
        check(status == 200, "ask", model, status, reply)
        return headers["X-Mbool-Epoch"]

    def trainer(self):
        """The process, or None."""
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open("/proc/%s/stat" % pid) as f:
                    fields = f.read().rsplit(")", 1)[1].split()
                if int(fields[1]) == self.process.pid and fields[0] != "Z":
                    return int(pid)
            except OSError:
                pass
        return None

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        check(self.process.wait(PATIENCE_S) == 0, "the daemon ends well", self.process.returncode)


class World:
    def __init__(self, mbool, mboold, make_folder, directory):
        self.mbool, self.mboold, self.directory = mbool, mboold, directory
        folder = os.path.join(directory, "float")
        self.model = os.path.join(directory, "tiny.mbool")
        subprocess.run([make_folder, folder], check=True, stdout=subprocess.DEVNULL)
        subprocess.run([mbool, "convert", folder, "-o", self.model, "--kernels", "2", "--group", "32"],
                       check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.train, self.valid = "".join(lines(40)), "".join(lines(8, 100))
        self.n = 0

    def state(self):
        """A folder that is not there yet."""
        self.n += 1
        return os.path.join(self.directory, "state%d" % self.n)


# What every undisturbed run of this comes to the same bits by.
SEED, STEPS, EVERY = 7, 12, 4
OPTIONS = {"steps": STEPS, "snapshot_every": EVERY, "batch_tokens": 256}


def short_job(d, mbool=None, **more):
    train, valid = d.file(d.world.train), d.file(d.world.valid)
    return d.start(train, validation_file=valid, seed=SEED, suffix="t", mbool=dict(OPTIONS, **(mbool or {})), **more)


def check_off(world):
    d = Daemon(world, None)
    for method, path in (("GET", "/v1/files"), ("GET", "/v1/fine_tuning/jobs"), ("GET", "/v1/files/x"),
                         ("POST", "/v1/fine_tuning/jobs"), ("GET", "/v1/fine_tuning/jobs/x/events")):
        status, _, reply = d.ask(method, path, {} if method == "POST" else None)
        check(status == 501 and "--state-dir" in reply["error"]["message"], path, status, reply)
    status, _, reply = d.upload("x")
    check(status == 501 and "--state-dir" in reply["error"]["message"], "upload", status, reply)
    d.stop()


def check_files(d):
    good = "".join(lines(3))
    status, _, f = d.upload(good, "a/b/../c.jsonl")
    check(status == 200 and f["object"] == "file" and f["bytes"] == len(good) and f["purpose"] == "fine-tune" and
          f["filename"] == "c.jsonl" and f["status"] == "processed" and f["expires_at"] is None, f)
    status, headers, content = d.ask("GET", "/v1/files/%s/content" % f["id"])
    check(status == 200 and content == good.encode() and 'filename="c.jsonl"' in headers["Content-Disposition"],
          status, content[:80])
    check(d.ask("GET", "/v1/files/" + f["id"])[2] == f, "the same file")
    bad = good + '\n{"messages": [{"role": "user", "content": "x"}, {"role": "king", "content": "y"}]}\n'
    status, _, b = d.upload(bad)
    check(status == 200 and b["status"] == "error" and "line 5" in b["status_details"] and
          "messages[1]" in b["status_details"] and "role" in b["status_details"], b)
    for text, says in (("no JSON\n", "line 1"), ("", "no examples"), ('{"prompt": "x"}\n', "completion"),
                       ('{"prompt": "x", "completion": 7}\n', "completion"), ("[1]\n", "line 1")):
        status, _, b = d.upload(text)
        check(status == 200 and b["status"] == "error" and says in b["status_details"], text, b)
    for fields, text, param in ((((),), good, "purpose"), ((("purpose", "assistants"),), good, "purpose"),
                                ((("purpose", "fine-tune"),), None, "file"),
                                ((("purpose", "x" * 100),), good, "purpose"),
                                ((("purpose", "fine-tune"), ("expires_after[anchor]", "created_at"),
                                  ("expires_after[seconds]", "10")), good, "expires_after[seconds]")):
        status, _, reply = d.upload(text, fields=[p for p in fields if p])
        check(status == 400 and reply["error"]["param"] == param, fields, status, reply)
    status, _, reply = d.upload(good, fields=[("purpose", "fine-tune"), ("expires_after[anchor]", "created_at"),
                                              ("expires_after[seconds]", "3600")])
    check(status == 200 and reply["expires_at"] == reply["created_at"] + 3600, reply)
    check(d.ask("POST", "/v1/files", {})[0] == 415, "no form")
    form = {"Content-Type": "multipart/form-data; boundary=XX"}
    check(d.ask("POST", "/v1/files", b"--XX\r\nbroken", form)[0] == 400, "half a form")
    check(d.upload("x" * 200000)[0] == 413, "too large")
    all_files = d.ask("GET", "/v1/files")[2]
    ids = [x["id"] for x in all_files["data"]]
    check(not all_files["has_more"] and all_files["last_id"] == ids[-1] == f["id"], "newest first", ids)
    page = d.ask("GET", "/v1/files?limit=2&order=asc&after=" + f["id"])[2]
    check([x["id"] for x in page["data"]] == ids[::-1][1:3] and page["has_more"], page)
    check(d.ask("GET", "/v1/files?purpose=vision")[2]["data"] == [], "no others")
    for query in ("limit=0", "limit=x", "order=up", "after=file-none"):
        check(d.ask("GET", "/v1/files?" + query)[0] == 400, query)
    status, _, reply = d.ask("DELETE", "/v1/files/" + f["id"])
    check(status == 200 and reply == {"id": f["id"], "object": "file", "deleted": True}, reply)
    check(d.ask("GET", "/v1/files/" + f["id"])[0] == 404 and d.ask("DELETE", "/v1/files/" + f["id"])[0] == 404, "gone")
    for name in ("../mboold.sqlite", "..%2Fmboold.sqlite", "."):
        check(d.ask("GET", "/v1/files/%s/content" % name)[0] == 404, name)


def check_refusals(d):
    f = d.file(d.world.train)
    bad = d.upload("{}\n")[2]["id"]
    for param, more in (("model", {"model": "none"}), ("training_file", {"training_file": "file-none"}),
                        ("training_file", {"training_file": bad}), ("validation_file", {"validation_file": "x"}),
                        ("suffix", {"suffix": "a b"}), ("suffix", {"suffix": "x" * 65}), ("seed", {"seed": -1}),
                        ("method.type", {"method": {"type": "dpo"}}), ("metadata", {"metadata": {"a": 1}}),
                        ("hyperparameters.n_epochs", {"hyperparameters": {"n_epochs": 0}}),
                        ("method.supervised.hyperparameters.batch_size",
                         {"method": {"type": "supervised", "supervised": {"hyperparameters": {"batch_size": "x"}}}}),
                        ("mbool.steps", {"mbool": {"steps": 0}}), ("mbool.teacher", {"mbool": {"teacher": "none"}}),
                        ("mbool.promote", {"mbool": {"promote": "if_better"}}), ("integrations", {"integrations": [1]})):
        status, _, reply = d.job(**dict({"training": f}, **{"headers": None}), **{
            k: v for k, v in more.items() if k != "training_file"}) if "training_file" not in more else d.job(
                more["training_file"])
        check(status in (400, 404) and reply["error"]["param"] == param, param, status, reply)
    check(d.ask("GET", "/v1/fine_tuning/jobs/none")[0] == 404, "no such job")
    for act in ("cancel", "pause", "resume"):
        check(d.ask("POST", "/v1/fine_tuning/jobs/none/" + act)[0] == 404, act)
    check(d.ask("GET", "/v1/fine_tuning/jobs")[2]["data"] == [], "no job came of it")


def check_story(d):
    """A job from beginning to end; returns the epoch that comes of it."""
    job = short_job(d, metadata={"who": "me"})
    j = d.wait(job, "succeeded")
    check(j["fine_tuned_model"].startswith("ft:tiny:t:") and j["finished_at"] >= j["created_at"] and
          j["trained_tokens"] > 0 and j["error"] is None and j["metadata"] == {"who": "me"} and
          j["mbool"]["step"] == j["mbool"]["total_steps"] == STEPS and j["seed"] == SEED, j)
    events = d.events(job)
    messages = [e["message"] for e in events]
    check(messages[0] == "Created fine-tuning job" and messages[-1] == "The job has successfully completed", messages)
    steps = [e["data"]["step"] for e in events if "training loss" in e["message"]]
    check(steps == list(range(1, STEPS + 1)), steps)
    last = [e for e in events if "training loss" in e["message"]][-1]
    check(last["type"] == "metrics" and all(k in last["data"] for k in (
        "train_loss", "valid_loss", "flips", "tokens_per_second", "eta_seconds", "total_steps")), last)
    losses = [e["data"]["valid_loss"] for e in events if "validation loss" in e["message"]]
    check(len(losses) == 4 and losses[-1] < losses[0], losses)
    checkpoints = d.ask("GET", "/v1/fine_tuning/jobs/%s/checkpoints" % job)[2]["data"]
    check([c["step_number"] for c in checkpoints] == [12, 8, 4], checkpoints)
    models = [c["fine_tuned_model_checkpoint"] for c in checkpoints]
    check(models == [j["fine_tuned_model"]] + [j["fine_tuned_model"] + ":ckpt-step-%d" % n for n in (8, 4)], models)
    check(all(c["metrics"]["full_valid_loss"] is not None for c in checkpoints), checkpoints)
    epochs = [d.epoch(m) for m in models]
    check(len(set(epochs + [d.epoch("tiny")])) == 4, "all are different", epochs)
    for act in ("cancel", "pause", "resume"):
        status, _, reply = d.ask("POST", "/v1/fine_tuning/jobs/%s/%s" % (job, act))
        check(status == 409 and reply["error"]["code"] == "invalid_transition", act, status, reply)
    status, _, stream = d.ask("GET", "/v1/fine_tuning/jobs/%s/events?stream=true" % job)
    told = [json.loads(line[6:])["id"] for line in stream.decode().split("\n") if line.startswith("data: {")]
    check(told == [e["id"] for e in events] and stream.endswith(b"data: [DONE]\n\n"), len(told), len(events))
    status, _, rest = d.ask("GET", "/v1/fine_tuning/jobs/%s/events?stream=true" % job,
                            headers={"Last-Event-ID": told[9]})
    check([line[4:] for line in rest.decode().split("\n") if line.startswith("id: ")] == told[10:], "the rest")
    check(d.ask("GET", "/v1/fine_tuning/jobs/%s/events?stream=maybe" % job)[0] == 400, "maybe")
    return epochs[0]


def check_variants(d, want):
    again = d.wait(short_job(d), "succeeded")
    check(d.epoch(again["fine_tuned_model"]) == want, "the same options make the same bits")
    dry = d.wait(short_job(d, {"dry_run": True}), "succeeded")
    check(dry["fine_tuned_model"] is None and dry["mbool"]["total_steps"] == STEPS, dry)
    f = d.file(d.world.train)
    j = d.wait(d.start(f, hyperparameters={"n_epochs": 2, "batch_size": 4, "learning_rate_multiplier": 0.5}), "succeeded")
    check(j["mbool"]["total_steps"] == 20, "two epochs of 40 examples by four", j["mbool"])
    bad = d.file(d.world.train + '{"prompt": 7}\n')
    j = d.wait(d.start(bad, mbool=dict(OPTIONS, invalid_sample_skip_percentage=10)), "succeeded")
    check(any("1 lines left out" in e["message"] for e in d.events(j["id"])), "a bad line is left out")
    j = d.wait(d.start(bad, mbool=dict(OPTIONS, invalid_sample_skip_percentage=1)), "failed")
    check(j["error"]["code"] == "invalid_training_file" and j["error"]["param"] == "training_file" and
          "line 41" in j["error"]["message"] and "/" not in j["error"]["message"], j["error"])
    first = d.job(f, {"Idempotency-Key": "k1"}, mbool=OPTIONS)[2]["id"]
    second = d.job(f, {"Idempotency-Key": "k1"}, mbool=OPTIONS)[2]["id"]
    status, _, reply = d.job(f, {"Idempotency-Key": "k1"})
    check(first == second and status == 400 and reply["error"]["code"] == "idempotency_key_reused", first, second, reply)
    d.wait(first, "succeeded")
    on = d.wait(d.start(f, model=again["fine_tuned_model"], mbool=OPTIONS), "succeeded")
    check(on["model"] == again["fine_tuned_model"] and d.epoch(on["fine_tuned_model"]) != want, "training goes on", on)
    listed = [x["id"] for x in d.ask("GET", "/v1/fine_tuning/jobs?limit=2")[2]["data"]]
    check(listed == [on["id"], first], "newest first", listed)


LONG = 100000


def check_steering(world, want):
    d = Daemon(world, world.state(), "--finetune-queue", "3")
    f = d.file(world.train)
    running = d.start(f, mbool={"steps": LONG, "batch_tokens": 256})
    waiting = d.start(f, mbool={"steps": LONG})
    d.wait(running, "running")
    check(d.look(waiting)["status"] == "queued", "one at a time")
    check(d.ask("DELETE", "/v1/files/" + f)[0] == 409, "a file in use")
    short = short_job(d)
    check(d.job(f)[0] == 429, "the queue is full")
    check(d.look(short)["mbool"]["queued_before"] == 1, d.look(short))
    j = d.ask("POST", "/v1/fine_tuning/jobs/%s/cancel" % waiting)[2]
    check(j["status"] == "cancelled" and j["finished_at"], j)
    check(d.look(running)["estimated_finish"] is None or d.look(running)["estimated_finish"] > time.time(), "an estimate")
    j = d.ask("POST", "/v1/fine_tuning/jobs/%s/pause" % running)[2]
    check(j["status"] == "pausing", j)
    d.wait(running, "paused")
    d.wait(short, "succeeded")
    check(d.epoch(d.look(short)["fine_tuned_model"]) == want, "what waited comes to the same")
    d.ask("POST", "/v1/fine_tuning/jobs/%s/resume" % running)
    d.wait(running, "running")
    at = d.look(running)["mbool"]["step"]
    check(at > 0 and d.trainer(), "it went on from step", at)
    d.ask("POST", "/v1/fine_tuning/jobs/%s/cancel" % running)
    d.wait(running, "cancelled")
    for _ in range(100):
        if not d.trainer():
            break
        time.sleep(0.05)
    check(not d.trainer(), "a cancelled job has no trainer")
    for _ in range(100):  # the daemon removes them when it has seen its end
        left = os.listdir(os.path.join(world.directory, "state%d" % world.n, "models", running))
        if not [x for x in left if x.startswith("out.")]:
            break
        time.sleep(0.05)
    check(not [x for x in left if x.startswith("out.")], "nor work files", left)
    d.stop()


def check_pause(world):
    """Paused in the middle, and stopped with the daemon: the same bits as without."""
    options = {"steps": 300, "batch_tokens": 256, "snapshot_every": 1000}
    d = Daemon(world, world.state())
    f = d.file(world.train)
    whole = d.wait(d.start(f, seed=3, mbool=options), "succeeded")
    want = d.epoch(whole["fine_tuned_model"])
    job = d.start(f, seed=3, mbool=options)
    d.wait_event(job, "Step 20/")
    d.ask("POST", "/v1/fine_tuning/jobs/%s/pause" % job)
    step = d.wait(job, "paused", "succeeded")["mbool"]["step"]
    check(20 <= step < 300, "paused at", step)
    d.ask("POST", "/v1/fine_tuning/jobs/%s/resume" % job)
    check(d.epoch(d.wait(job, "succeeded")["fine_tuned_model"]) == want, "paused and resumed at", step)
    job = d.start(f, seed=3, mbool=options)
    d.wait_event(job, "Step 20/")
    d.stop()
    d = Daemon(world, os.path.join(world.directory, "state%d" % world.n))
    j = d.wait(job, "succeeded")
    check(d.epoch(j["fine_tuned_model"]) == want, "stopped and started with the daemon")
    d.stop()


FAULTS = ["kill@ready:0", "kill@valid:0", "kill@step:1", "kill@step:6", "kill@snapshot:4", "kill@snapshot:8",
          "kill@valid:12", "kill@done:12", "exit@step:5", "memory@step:5", "hang@step:7", "hang@snapshot:4"]


def check_faults(world, want):
    """The daemon serves while its trainer does what it should not, and the job comes to the same bits."""
    for fault in FAULTS:
        d = Daemon(world, world.state(), "--finetune-hang", "2", fault=fault)
        base = d.epoch("tiny")
        job = short_job(d)
        j = d.wait(job, "succeeded")
        check(j["fine_tuned_model"] and d.epoch(j["fine_tuned_model"]) == want, fault, "comes to the same", j)
        check(d.epoch("tiny") == base, fault, "serving goes on")
        messages = [e["message"] for e in d.events(job) if e["level"] == "warn"]
        # A build with the thread sanitizer ends in its allocator, with status 66.
        memory = "emory" if "status 66" not in str(messages) else "status 66"
        words = {"kill": "signal 9", "exit": "without a word", "memory": memory, "hang": "--finetune-hang"}
        expected = 0 if fault.startswith("kill@done") else 1  # it had told of its end
        check(len(messages) == expected and all(words[fault[:fault.index("@")]] in m or "signal" in m
                                                for m in messages), fault, messages)
        check(j["mbool"]["attempts"] == 1 + expected, fault, j["mbool"])
        d.stop()


def check_bounded(world):
    """A trainer that always ends badly is not started for ever."""
    d = Daemon(world, world.state())
    f = d.file(world.train)
    job = d.start(f, mbool={"steps": LONG, "snapshot_every": LONG})
    killed = 0
    while killed < 4 and d.look(job)["status"] != "failed":
        pid = d.trainer()
        if pid and d.look(job)["status"] == "running":
            os.kill(pid, signal.SIGKILL)
            killed += 1
            while d.trainer() == pid:
                time.sleep(0.02)
        time.sleep(0.05)
    j = d.wait(job, "failed")
    check(j["error"]["code"] == "trainer_failed" and "signal 9" in j["error"]["message"] and
          j["mbool"]["attempts"] == 4, j)
    d.stop()


def check_daemon_killed(world, want):
    """At any moment: what was acknowledged is there, and the job goes on."""
    for fault in ("hang@ready:0", "hang@step:5", "hang@snapshot:4", "hang@valid:12", "hang@done:12"):
        state = world.state()
        d = Daemon(world, state, fault=fault)  # it stands still there, and the daemon is killed
        job = short_job(d, {"promote": "always"})
        kind, step = fault[5:].split(":")
        text = {"ready": "Files validated", "step": "Step 4/", "snapshot": "Checkpoint created at step 4",
                "valid": "Step 12/12: training", "done": "New fine-tuned model"}[kind]
        d.wait_event(job, text)
        pid, before = d.trainer(), d.events(job)
        d.kill()
        for _ in range(100):
            if not pid or not os.path.exists("/proc/%d/stat" % pid) or "Z" in open("/proc/%d/stat" % pid).read():
                break
            time.sleep(0.05)
        else:
            check(False, fault, "the trainer outlives its daemon")
        d = Daemon(world, state)
        check(d.events(job)[:len(before)] == before, fault, "events that were told are there")
        j = d.wait(job, "succeeded")
        check(d.epoch(j["fine_tuned_model"]) == want and d.epoch("tiny") == want, fault, "comes to the same", j)
        d.stop()


def check_promotion(world, want):
    state = world.state()
    d = Daemon(world, state)
    base = d.epoch("tiny")
    j = d.wait(short_job(d, {"promote": "if_better", "promote_margin": 100}), "succeeded")
    check(d.epoch("tiny") == base, "a hundred nats better it is not")
    j = d.wait(short_job(d, {"promote": "if_better"}), "succeeded")
    check(d.epoch("tiny") == want, "it is better, and goes live")
    d.kill()
    d = Daemon(world, state)
    check(d.epoch("tiny") == want, "and is so after a restart")
    status, _, reply = d.ask("POST", "/v1/mbool/models/tiny/rollback", {})
    check(status == 200 and d.epoch("tiny") == base, "rolled back", reply)
    d.kill()
    d = Daemon(world, state)
    check(d.epoch("tiny") == base, "also that is remembered")
    for _ in range(100):  # the others come back one after the other
        if d.ask("GET", "/v1/models/" + j["fine_tuned_model"])[0] == 200:
            break
        time.sleep(0.05)
    check(d.epoch(j["fine_tuned_model"]) == want, "what was published is served again")
    d.stop()


def check_full_disk(world):
    d = Daemon(world, world.state(), file_limit=600000)  # files may not grow beyond; the database is smaller
    f = d.file(world.train)
    status, _, reply = d.upload("".join(lines(8000)))
    check(status == 503 and reply["error"]["code"] == "storage_full", "upload", status, reply)
    j = d.wait(d.start(f, mbool=OPTIONS), "succeeded")
    check(d.ask("GET", "/v1/files")[2]["data"][0]["id"] == f, "one file")
    left = os.listdir(os.path.join(world.directory, "state%d" % world.n, "files"))
    check(left == [f], "no half of a file", left)
    d.stop()
    state = world.state()
    d = Daemon(world, state)
    f = d.file(world.train)
    d.stop()
    d = Daemon(world, state, file_limit=os.path.getsize(world.model) + 20000)  # a training's state is larger
    base = d.epoch("tiny")
    job = d.start(f, mbool=OPTIONS)
    j = d.wait(job, "failed")
    check("large" in j["error"]["message"] and d.epoch("tiny") == base, "snapshot", j["error"])
    d.stop()
    d = Daemon(world, world.state(), file_limit=120000)  # the database's log is full soon
    base, n, status = d.epoch("tiny"), 0, 200
    while status == 200 and n < 200:
        status, _, reply = d.upload(next(lines(1)))
        n += status == 200
    check(status == 503 and reply["error"]["code"] == "storage_full", "database", status, n, reply)
    check(d.epoch("tiny") == base and len(d.ask("GET", "/v1/files?limit=1000")[2]["data"]) == n, "what was acknowledged")
    d.kill()
    files = os.path.join(world.directory, "state%d" % world.n, "files")
    with open(os.path.join(files, ".upload-stray"), "w") as f:
        f.write("half")
    d = Daemon(world, os.path.dirname(files))
    check(len(d.ask("GET", "/v1/files?limit=1000")[2]["data"]) == n, "and is there with more room")
    check(len(os.listdir(files)) == n, "what was never acknowledged is gone", os.listdir(files))
    check(d.upload(next(lines(1)))[0] == 200, "room again")
    d.stop()


def refuses_to_start(world, state, says, name=""):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    p = subprocess.Popen([world.mboold, "--model", "tiny=" + world.model, "--listen", "127.0.0.1:%d" % port,
                          "--state-dir", state], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        text = p.communicate(timeout=60)[1].decode()
    except subprocess.TimeoutExpired:
        p.kill()
        text = "it starts" + p.communicate()[1].decode()
    check(p.returncode == 1 and says in text, name, "does not start:", says, p.returncode, text[-300:])


def check_damage(world, want):
    state = world.state()
    d = Daemon(world, state)
    j = d.wait(short_job(d), "succeeded")
    refuses_to_start(world, state, "another daemon uses")
    d.stop()
    database = os.path.join(state, "mboold.sqlite")
    size = os.path.getsize(database)
    whole = open(database, "rb").read()
    for name, data in (("half", whole[:size // 2]), ("nothing", b""), ("garbage", os.urandom(size)),
                       ("a page of zeros", whole[:8192] + bytes(4096) + whole[12288:]),
                       ("a page short", whole[:-4096])):
        copy = world.state()
        shutil.copytree(state, copy)
        with open(os.path.join(copy, "mboold.sqlite"), "wb") as f:
            f.write(data)
        refuses_to_start(world, copy, "mboold.sqlite", name)
    copy = world.state()
    shutil.copytree(state, copy)
    os.unlink(os.path.join(copy, "mboold.sqlite"))
    refuses_to_start(world, copy, "restore")
    folder = os.path.join(state, "models", j["id"])
    with open(os.path.join(folder, "step-8.delta"), "r+b") as f:
        f.seek(600)
        f.write(b"damaged!")
    d = Daemon(world, state)
    for _ in range(200):
        models = [m["id"] for m in d.ask("GET", "/v1/models")[2]["data"]]
        if j["fine_tuned_model"] in models:
            break
        time.sleep(0.05)
    check(d.epoch(j["fine_tuned_model"]) == want, "the others are served")
    check(j["fine_tuned_model"] + ":ckpt-step-8" not in models, "not the damaged one")
    d.wait_event(j["id"], "can not be served")
    d.stop()


def check_isolation(world):
    """What the trainer holds, and that it makes way."""
    d = Daemon(world, world.state(), "--max-sequences", "1")
    job = d.start(d.file(world.train), mbool={"steps": LONG, "batch_tokens": 256})
    d.wait(job, "running")
    pid = d.trainer()
    opened = {fd: os.readlink("/proc/%d/fd/%s" % (pid, fd)) for fd in os.listdir("/proc/%d/fd" % pid)}
    others = {fd: to for fd, to in opened.items() if int(fd) > 3}
    check(not [to for to in others.values() if "sqlite" in to or "eventpoll" in to or "lock" in to], others)
    check(opened["3"].startswith(world.model), "the base is a descriptor", opened)
    with open("/proc/%d/oom_score_adj" % pid) as f:
        check(f.read().strip() == "1000", "the first to go")
    body = json.dumps({"model": "tiny", "prompt": "x", "n": 128, "max_tokens": 40, "ignore_eos": True})
    s = socket.create_connection(("127.0.0.1", d.port))
    s.sendall(("POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)).encode())
    stands = False
    for _ in range(400):
        with open("/proc/%d/stat" % pid) as f:
            stands |= f.read().rsplit(")", 1)[1].split()[0] == "T"
        if stands:
            break
        time.sleep(0.005)
    check(stands, "it stands still while requests wait")
    s.close()
    d.wait(job, "running")
    metrics = d.ask("GET", "/metrics")[2].decode()
    for name in ('mboold_finetune_jobs{status="running"} 1', "mboold_finetune_trainers 1", "mboold_finetune_steps_total",
                 "mboold_finetune_tokens_total", "mboold_finetune_flips_total", "mboold_finetune_silence_seconds",
                 "mboold_finetune_throttled_seconds_total"):
        check(name in metrics, name)
    d.ask("POST", "/v1/fine_tuning/jobs/%s/cancel" % job)
    d.stop()


def check_complaints(world):
    with open(os.path.join(world.directory, "log"), errors="replace") as f:
        bad = [line for line in f if "runtime error" in line or "Sanitizer" in line or "Assertion" in line]
    # A sanitizer says so of itself, too, when a trainer is denied memory on purpose.
    bad = [line for line in bad if "out of memory" not in line and "failed to allocate" not in line]
    check(not bad, bad[:3])


def main():
    mbool, mboold, make_folder = sys.argv[1:4]
    with tempfile.TemporaryDirectory() as directory:
        world = World(mbool, mboold, make_folder, directory)
        check_off(world)
        d = Daemon(world, world.state(), "--file-bytes-max", "100000")
        try:
            check_files(d)
            check_refusals(d)
            want = check_story(d)
            check_variants(d, want)
            d.stop()
            check_steering(world, want)
            check_pause(world)
            check_faults(world, want)
            check_bounded(world)
            check_daemon_killed(world, want)
            check_promotion(world, want)
            check_full_disk(world)
            check_damage(world, want)
            check_isolation(world)
            check_complaints(world)
        finally:
            if failed:
                with open(os.path.join(directory, "log"), errors="replace") as f:
                    print("".join([line for line in f if "event=request" not in line][-30:]))
    print("CHECKS %d RUN %d FAILED" % (checks, failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""Goal:   mboold and proto/openapi.yaml agree, both ways.
Method: the daemon is asked for every path of the document, and the router's table is read for every path of
        the daemon. For every field of a body, and every member in it: a value on each of the document's bounds
        must be taken, and one beyond refused by name; a default must answer as its absence does; the codecs'
        tables are read for fields that the document lacks. Headers that are refused before there is a body are
        sent to every path. Replies, good and bad, whole and streamed, are held against the document's schemas,
        which allow no field that they do not name and require all that they do.
Usage:  test_openapi.py SOURCE MBOOL MBOOLD MAKE_FOLDER"""
import http.client
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time

try:
    import jsonschema
    import yaml
except ImportError:
    print("SKIPPED the packages python3-jsonschema and python3-yaml are not here\nCHECKS 1 RUN 0 FAILED")
    sys.exit(77)

checks = failed = 0


def check(ok, *what):
    global checks, failed
    checks += 1
    if not ok:
        failed += 1
        print("FAILED", *what)


# Roles that a template would refuse; tools, and calls in the form that the daemon knows from "parameters".
TEMPLATE = """{%- for m in messages %}{% if m.role == 'judge' %}{{ raise_exception('no judges') }}{% endif %}
{{- '<' ~ m.role ~ '>' ~ m.content }}{% endfor %}{% if tools %}{{ '"parameters" ' ~ tools|length }}{% endif %}"""
CONTEXT = 2048
TIMEOUT_S = 3


def make_model(mbool, make_folder, directory):
    folder, model = os.path.join(directory, "float"), os.path.join(directory, "tiny.mbool")
    subprocess.run([make_folder, folder], check=True, stdout=subprocess.DEVNULL)
    for name, more in (("config.json", {"max_position_embeddings": CONTEXT}),
                       ("tokenizer_config.json", {"chat_template": TEMPLATE})):
        with open(os.path.join(folder, name)) as f:
            content = json.load(f)
        with open(os.path.join(folder, name), "w") as f:
            json.dump(dict(content, **more), f)
    subprocess.run([mbool, "convert", folder, "-o", model, "--kernels", "2", "--group", "32"],
                   check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return model


# Of routes whose {id} is no model's: what has to be there to be asked for.
class Kept:
    """A file and a job for everything; and one of its own for what changes it. Jobs only wait: there are no slots."""
    LINE = b'{"prompt": "x", "completion": "y"}\n'
    FORM = {"Content-Type": "multipart/form-data; boundary=XX"}
    BODY = (b'--XX\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nfine-tune\r\n--XX\r\nContent-Disposition: '
            b'form-data; name="file"; filename="x.jsonl"\r\n\r\n' + LINE + b'\r\n--XX--\r\n')

    def __init__(self, daemon, headers=None):
        self.daemon, self.headers = daemon, headers or {}
        self.file = self.upload()
        GOOD["/v1/fine_tuning/jobs"] = {"model": "tiny", "training_file": self.file}
        self.job = self.post("/v1/fine_tuning/jobs", GOOD["/v1/fine_tuning/jobs"])

    def upload(self):
        return json.loads(self.daemon.ask("POST", "/v1/files", self.BODY, dict(self.headers, **self.FORM))[2])["id"]

    def post(self, path, body):
        return json.loads(self.daemon.ask("POST", path, body, self.headers)[2])["id"]

    def path(self, path, method):
        if path == "/v1/files/{id}" and method == "delete":
            return path.replace("{id}", self.upload())
        if path.endswith(("/cancel", "/pause", "/resume")):
            job = self.post("/v1/fine_tuning/jobs", GOOD["/v1/fine_tuning/jobs"])
            if path.endswith("/resume"):
                self.post("/v1/fine_tuning/jobs/%s/pause" % job, {})
            return path.replace("{id}", job)
        kept = self.file if path.startswith("/v1/files") else self.job if "fine_tuning" in path else "tiny"
        return path.replace("{id}", kept).replace("{model}", "tiny")

    def body(self, path, method):
        """(body, headers)"""
        if path == "/v1/files" and method == "post":
            return self.BODY, self.FORM
        return GOOD.get(path) if method == "post" else None, {}


class Daemon:
    def __init__(self, mboold, model, *flags):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        self.process = subprocess.Popen(
            [mboold, "--model", "tiny=" + model, "--listen", "127.0.0.1:%d" % self.port,
             "--state-dir", "%s.state-%d" % (model, self.port), "--finetune-slots", "0", "--finetune-queue", "10000",
             "--header-timeout", str(TIMEOUT_S), "--body-timeout", str(TIMEOUT_S), *flags],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(600):
            try:
                self.ask("GET", "/readyz")
                return
            except OSError:
                time.sleep(0.1)
        raise RuntimeError("mboold does not answer")

    def ask(self, method, path, body=None, headers=None):
        """(status, headers, bytes)"""
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        text = body if isinstance(body, (str, bytes, type(None))) else json.dumps(body)
        kind = {"Content-Type": "application/json"} if body is not None else {}
        c.request(method, path.replace("{model}", "tiny"), text, dict(kind, **(headers or {})))
        reply = c.getresponse()
        return reply.status, reply.headers, reply.read()

    def begin(self, text):
        """A connection over which text was sent as it is."""
        s = socket.create_connection(("127.0.0.1", self.port), timeout=120)
        s.sendall(text.encode())
        return s


def end(connection):
    """The reply to what was sent, as of ask."""
    reply = http.client.HTTPResponse(connection)
    reply.begin()
    ret = reply.status, reply.headers, reply.read()
    connection.close()
    return ret


def resolve(document, schema):
    while "$ref" in schema:
        part = document
        for step in schema["$ref"][2:].split("/"):
            part = part[step]
        schema = part
    return schema


def validator(document, schema):
    whole = dict(schema)
    whole["components"] = document["components"]
    return jsonschema.Draft202012Validator(whole)


def properties_of(document, schema):
    """Of a body: its own, and those of the schemas that it is made of."""
    schema = resolve(document, schema)
    ret = {}
    for part in schema.get("allOf", []):
        ret.update(properties_of(document, part))
    ret.update(schema["properties"])
    return ret


def request_schema(document, path):
    return resolve(document, document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"])


def check_headers(document, described, headers, what):
    for name, header in described.get("headers", {}).items():
        header = resolve(document, header)
        check(name in headers or not header.get("required"), what, "lacks", name)
        if name in headers:
            text = headers[name]
            value = int(text) if header["schema"]["type"] == "integer" and text.isdigit() else text
            check(validator(document, header["schema"]).is_valid(value), what, name, text)
    limits = ["x-ratelimit-%s-%s" % (a, b) for a in ("limit", "remaining", "reset") for b in ("requests", "tokens")]
    for name in ["Retry-After", "X-Request-Id", "X-Mbool-Epoch", "WWW-Authenticate"] + limits:
        check(name not in headers or name in described.get("headers", {}), what, name, "is not described")


def check_reply(document, operation, status, headers, body, what):
    described = operation["responses"].get(str(status))
    check(described is not None, what, "answers", status, "which is not described")
    if described is None:
        return
    described = resolve(document, described)
    check_headers(document, described, headers, what)
    kind = headers["Content-Type"].split(";")[0]
    check(kind in described["content"], what, "answers", kind)
    if kind not in described["content"] or kind in ("text/plain", "application/octet-stream"):
        return
    v = validator(document, described["content"][kind]["schema"])
    if kind == "application/json":
        replies = [json.loads(body)]
    else:
        lines = [line[6:] for line in body.decode().split("\n") if line.startswith("data: ")]
        replies = [json.loads(line) for line in lines if line != "[DONE]"]
        check(lines.count("[DONE]") == (lines[-1] == "[DONE]"), what, "[DONE] in the middle")
        check((lines[-1] == "[DONE]") != ("error" in replies[-1]), what, "ends without [DONE], or with both")
    for reply in replies:
        errors = [e.message for e in v.iter_errors(reply)]
        check(not errors, what, status, errors[:3], json.dumps(reply)[:300])


def source(root, path):
    with open(os.path.join(root, path)) as f:
        return f.read()


def check_routes(document, daemon, root):
    served = set()
    for method, path in re.findall(r'\{ "\w+",\s*"([A-Z]+)",\s*"([^"]+)"', source(root, "server/http/router.c")):
        served.add((method.lower(), path + "{id}" if path.endswith("/") else path))
    described = {(m, p) for p, operations in document["paths"].items() for m in operations}
    check(len(served) > 5, "the router's table was not found")
    check(served == described, "only served:", served - described, "only described:", described - served)
    kept = Kept(daemon)
    for path, operations in document["paths"].items():
        for method in ("get", "post", "put", "delete"):
            status, headers, body = daemon.ask(method.upper(), kept.path(path, method))
            if method in operations:
                check(status not in (404, 405), method, path, status)
                check_reply(document, operations[method], status, headers, body, (method, path))
            else:
                check(status == 405, method, path, status)
                check(set(headers.get("Allow", "").lower().replace(" ", "").split(",")) - {"head"} == set(operations),
                      method, path, "Allow:", headers.get("Allow"))
                check_error(document, body, (method, path))
    status, _, body = daemon.ask("GET", "/v1/nothing")
    check(status == 404, "a path that is not there")
    check_error(document, body, "a path that is not there")


def check_error(document, body, what):
    error = validator(document, document["components"]["schemas"]["Error"])
    errors = [e.message for e in error.iter_errors(json.loads(body))]
    check(not errors, what, errors[:3])


# Requests that no route sees: (status, what comes behind method and path).
REFUSED_BEFORE = [
    (400, " HTTP/1.1\r\n\r\n"),
    (400, " HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n"),
    (408, " HTTP/1.1\r\nHost: localhost\r\n"),
    (413, " HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n"),
    (501, " HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip\r\n\r\n"),
]
OF_BODIES = [
    (408, " HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{"),
    (415, " HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\n{}"),
]
OF_FORMS = [
    (408, " HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=XX\r\nContent-Length: 9\r\n\r\n-"),
    (415, OF_BODIES[1][1]),
]


def check_before(document, daemon):
    """All at once: some only get an answer when the daemon's patience ends."""
    waiting = []
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            of_bodies = OF_FORMS if path == "/v1/files" else OF_BODIES
            for expected, text in REFUSED_BEFORE + (of_bodies if method == "post" else []):
                text = method.upper() + " " + path.replace("{id}", "tiny").replace("{model}", "tiny") + text
                waiting.append((operation, expected, text, daemon.begin(text)))
    for operation, expected, text, connection in waiting:
        status, headers, body = end(connection)
        check(status == expected, repr(text), "is answered", status, body[:200])
        check_reply(document, operation, status, headers, body, repr(text))


SCOPES = ["infer", "finetune", "admin", "metrics"]


def check_keys(document, mboold, model, directory, root):
    """A key for each scope: the document's are the router's, and open what they say."""
    table = source(root, "server/http/router.c")
    keys, names = os.path.join(directory, "keys"), {s: ("key of " + s).replace(" ", "-").ljust(40, "x") for s in SCOPES}
    with open(keys, "w") as f:
        for scope, key in names.items():
            line = subprocess.run([mboold, "--hash-key", scope], input=key, text=True, check=True, capture_output=True)
            f.write(line.stdout.replace(" infer ", " %s " % scope))
        limited = "limited".ljust(40, "x")
        line = subprocess.run([mboold, "--hash-key", "limited"], input=limited, text=True, check=True, capture_output=True)
        f.write(line.stdout.replace(" sha256", " requests-per-minute=1 tokens-per-minute=1000 sha256"))
    daemon = Daemon(mboold, model, "--keys", keys)
    kept = Kept(daemon, {"Authorization": "Bearer " + names["finetune"]})
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            allowed = operation["security"][0]["ApiKey"] if operation["security"] else []
            row = re.search(r'"%s",\s*"%s",\s*MBD_SCOPE_(\w+)' % (method.upper(), re.escape(path.replace("/v1/models/{id}", "/v1/models/"))), table)
            check(row and {"OPEN": [], "ANY": SCOPES}.get(row[1], [row[1].lower()]) == allowed, path, "needs", allowed)
            for scope in [None] + SCOPES:
                body, kind = kept.body(path, method)
                headers = dict(kind, **({"Authorization": "Bearer " + names[scope]} if scope else {}))
                asked = kept.path(path, method) if scope in allowed else path.replace("{id}", "tiny").replace(
                    "{model}", "tiny")
                if not operation["security"]:
                    asked = path
                status, got, reply = daemon.ask(method.upper(), asked, body, headers)
                good = not operation["security"] or scope in allowed
                as_it_is = {200, 409} if "rollback" in path else {200}  # there is nothing to roll back to
                check(status in (as_it_is if good else {403} if scope else {401}), path, "with", scope, status)
                check_reply(document, operation, status, got, reply, (path, scope))
    for status in (200, 429):
        got, headers, reply = daemon.ask("POST", "/tokenize", GOOD["/tokenize"], {"Authorization": "Bearer " + limited})
        check(got == status and "x-ratelimit-reset-tokens" in headers, "a key with limits", got, dict(headers))
        check_reply(document, document["paths"]["/tokenize"]["post"], got, headers, reply, ("limits", status))
    daemon.process.kill()
    daemon.process.wait()


# A body that is good for each route, so that one field at a time can be tried.
GOOD = {
    "/v1/completions": {"prompt": "x", "max_tokens": 1},
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "x"}], "max_tokens": 1},
    "/v1/embeddings": {"input": "x"},
    "/tokenize": {"prompt": "x"},
    "/detokenize": {"tokens": [1]},
    "/v1/mbool/models/{model}/promote": {"to": "tiny"},
    "/v1/mbool/models/{model}/pin": {},
}
# What a field needs beside it.
BESIDE = {
    "stream_options": {"stream": True},
    "top_logprobs": {"logprobs": True},
    "min_tokens": {"max_tokens": None, "stop_token_ids": [0]},
}
# Draws enough that another value of a field of sampling would show.
MANY = {"max_tokens": 24, "seed": 5, "temperature": 2}
TOKEN_ID_MAX = 4294967295
LONG = 4096  # elements; arrays that may be longer have a test of their own


def answers(name, value):
    """The statuses that a value in bounds may get from this small model."""
    if name in ("max_tokens", "max_completion_tokens") and value == 1048576 or name == "dimensions" and value == 1:
        return {400}
    if name in ("training_file", "validation_file"):
        return {200, 400}
    if name == "mbool" and ("teacher" in value or value.get("promote") == "if_better"):
        return {400}
    if name in ("prompt", "input") and str(TOKEN_ID_MAX) in json.dumps(value):
        return {400}
    return {200, 404} if name in ("model", "to") else {200, 504} if name == "time_limit" else {200}


def number_values(schema):
    step = 1 if schema["type"] == "integer" else 0.001
    good, bad = [], ["1", True, {}]
    for name, outside in (("minimum", -step), ("maximum", step)):
        if name in schema:
            good.append(schema[name])
            bad.append(schema[name] + outside)
    if "exclusiveMinimum" in schema:
        good.append(schema["exclusiveMinimum"] + step)
        bad += [schema["exclusiveMinimum"], schema["exclusiveMinimum"] - step]
    if step == 1:
        bad.append(1.5)
    return good or [1], bad


def string_values(schema):
    if "pattern" in schema:
        return ["a_name"], [7, "no name!", ""]
    least = schema.get("minLength", 0)
    most = schema.get("maxLength", least + 1)
    return (["x" * n for n in sorted({least, most})],
            [7, "x" * (most + 1)] + (["x" * (least - 1)] if least > 0 else []))


def array_values(document, schema):
    items, bad_items = values(document, schema.get("items", {}))
    item = items[0]
    least, most = schema.get("minItems", 0), schema.get("maxItems", 1)
    good = [[item] * n for n in sorted({least, max(least, 1) if most else 0, most}) if n <= LONG]
    good += [[i] for i in items[1:] if most]
    bad = [7, {}, "text"] + [[b] for b in bad_items] + [[item] * (least - 1) if least else {}]
    bad += [[item] * (most + 1)] if "maxItems" in schema and most <= LONG else []
    return good, bad


def map_values(document, schema):
    """Of an object whose members are all alike, by decimal names."""
    values_of, bad_values = values(document, schema["additionalProperties"])
    most = schema["maxProperties"]
    good = [{}, {str(i): values_of[0] for i in range(most)}] + [{str(TOKEN_ID_MAX): v} for v in values_of]
    bad = [7, [], {str(i): values_of[0] for i in range(most + 1)}] + [{"1": b} for b in bad_values]
    return good, bad + [{name: values_of[0]} for name in ("x", "", "-1", "01", " 1", "1e3")]


def object_values(document, schema):
    properties = schema.get("properties", {})
    of = {name: values(document, p) for name, p in properties.items()}
    least = {name: of[name][0][0] for name in schema.get("required", [])}
    good, bad = [least], [7, "x", []] + ([{"a": 1}] if schema.get("maxProperties") == 0 else [])
    for name, (good_ones, bad_ones) in of.items():
        good += [dict(least, **{name: v}) for v in good_ones]
        bad += [dict(least, **{name: v}) for v in bad_ones]
    return good, bad + [{k: v for k, v in least.items() if k != name} for name in least]


def values(document, schema):
    """(values that the schema allows, values that it does not): at its bounds and just beyond, by jsonschema's word."""
    schema = resolve(document, schema)
    good, bad = [], []
    for branch in schema.get("anyOf", []) + schema.get("oneOf", []):
        more_good, more_bad = values(document, branch)
        good += more_good
        bad += more_bad
    if "const" in schema or "enum" in schema:
        good, bad = schema.get("enum", [schema.get("const")]), ["no such value", 7, ""]
    elif schema.get("type") in ("integer", "number"):
        good, bad = number_values(schema)
    elif schema.get("type") == "string":
        good, bad = string_values(schema)
    elif schema.get("type") == "boolean":
        good, bad = [True, False], [1, "true", []]
    elif schema.get("type") == "null":
        good, bad = [None], []
    elif schema.get("type") == "array":
        good, bad = array_values(document, schema)
    elif schema.get("type") == "object":
        alike = isinstance(schema.get("additionalProperties"), dict)
        good, bad = (map_values if alike else object_values)(document, schema)
    elif not good:
        good = [7, "x", {}]  # anything is allowed
    v = validator(document, schema)
    for value in good:
        check(v.is_valid(value), "the test takes for allowed", str(value)[:60], schema)
    return good, [b for b in bad if not v.is_valid(b)]


def check_value(document, daemon, path, name, value, allowed):
    operation = document["paths"][path]["post"]
    what = (path, name, str(value)[:60])
    status, headers, text = daemon.ask("POST", path, dict(GOOD[path], **BESIDE.get(name, {}), **{name: value}))
    check_reply(document, operation, status, headers, text, what)
    if allowed:
        check(status in answers(name, value), *what, "is allowed, and answered", status, text[:200])
        return
    param = json.loads(text).get("error", {}).get("param") if status == 400 else None
    check(status == 400 and param and re.split(r"[.\[]", param)[0] == name, *what, "is not allowed, and answered",
          status, text[:200])


def check_default(daemon, path, name, value):
    """Its absence means the same; only so much as replies can be told apart."""
    body = dict(GOOD[path], **BESIDE.get(name, {}))
    if "completions" in path:
        body.update({k: v for k, v in MANY.items() if k not in (name, "max_tokens" if name == "min_tokens" else "")})
    alone, given = (daemon.ask("POST", path, b)[2] for b in (body, dict(body, **{name: value})))
    alone, given = ([re.sub(rb'cmpl-\w+|"created":\d+|call_\w+', b"", line) for line in text.split(b"\n")]
                    for text in (alone, given))
    check(alone == given, path, name, "absent is not", value, alone[0][:300], given[0][:300])


def check_fields(document, daemon, path):
    schema = request_schema(document, path)
    for name, field in properties_of(document, schema).items():
        good, bad = values(document, field)
        for value in good:
            check_value(document, daemon, path, name, value, True)
        for value in bad:
            check_value(document, daemon, path, name, value, False)
        if "default" in field:
            check(validator(document, field).is_valid(field["default"]), path, name, "its default")
            check_default(daemon, path, name, field["default"])
        status, _, text = daemon.ask("POST", path, dict(GOOD[path], **{name: None}))
        check(status == (400 if name in schema["required"] else 200), path, name, "null", status, text[:200])
    for name in schema["required"]:
        body = {k: v for k, v in GOOD[path].items() if k != name}
        check(daemon.ask("POST", path, body)[0] == 400, path, name, "is required")


def check_long_ids(document, daemon):
    """The bound of an array that is too long for values."""
    schemas = document["components"]["schemas"]
    most = schemas["Tokenized"]["maxItems"]
    check(schemas["DetokenizeRequest"]["properties"]["tokens"]["maxItems"] == most, "one bound")
    for path, name in (("/v1/completions", "prompt"), ("/v1/embeddings", "input"), ("/detokenize", "tokens")):
        for n in (most, most + 1):
            status, _, text = daemon.ask("POST", path, '{"%s":[%s]}' % (name, ",".join(["5"] * n)))
            error = json.loads(text).get("error", {})
            beyond_context = error.get("code") == "context_length_exceeded"
            check((status == 200 or beyond_context) == (n == most), path, n, "ids", status, text[:200])
            check(n == most or error.get("param") == name, path, n, "ids", text[:200])


# Where each route's codec names the fields that it reads.
TABLE = r'^    \{ "(\w+)", (?:mb_)?take_'
CODECS = {
    "/v1/completions": (["proto/json/sampling_json.c", "proto/json/completion_json.c"], TABLE),
    "/v1/chat/completions": (["proto/json/sampling_json.c", "proto/json/chat_json.c"], TABLE),
    "/v1/embeddings": (["proto/json/embedding_json.c"], r'json_object_get\(root, "(\w+)"\)'),
    "/tokenize": (["proto/json/tokenize_json.c"], r'root, "(prompt|\w*token_strs|add\w+)"'),
    "/detokenize": (["proto/json/tokenize_json.c"], r'root, "(tokens)"'),
    "/v1/fine_tuning/jobs": (["proto/json/job_json.c"], r'^    \{ (?:\.name = )?"(\w+)", (?:\.take = )?take_'),
    "/v1/mbool/models/{model}/promote": (["proto/json/epochs_json.c"], r'root, "(to)"'),
    "/v1/mbool/models/{model}/pin": (["proto/json/epochs_json.c"], r'bool\(root, "(\w+)"'),
}
# Posts that say nothing by their body.
BARE = {"/v1/mbool/models/{model}/rollback"} | {"/v1/fine_tuning/jobs/{id}/" + a for a in ("cancel", "pause", "resume")}
FORMS = {"/v1/files"}


def check_codecs(document, root):
    posts = {p for p, operations in document["paths"].items() if "post" in operations}
    check(set(CODECS) == set(GOOD) == posts - BARE - FORMS, "a route without its codec")
    for path, (files, pattern) in CODECS.items():
        described = set(properties_of(document, request_schema(document, path)))
        found = [name for f in files for name in re.findall(pattern, source(root, f), re.M)]
        read = set(found) | ({"model"} if "{model}" not in path else set())
        check(read == described, path, "only read:", read - described, "only described:", described - read)
        check(pattern != TABLE or len(found) == len(set(found)), path, "a field in two tables")
    rows = re.findall(TABLE, source(root, "proto/json/sampling_json.c"), re.M)
    described = document["components"]["schemas"]["Sampling"]["properties"]
    check(set(rows) == set(described), "Sampling is not sampling_json.c's table", set(rows) ^ set(described))


SAYS = {"role": "user", "content": "x"}
FUNCTION = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
CALL = {"type": "object", "required": ["name", "parameters"], "additionalProperties": False, "properties": {
    "name": {"const": "f"}, "parameters": {"type": "object", "properties": {"a": {"enum": [1, 2]}}, "required": ["a"]}}}
CALLING = {"messages": [SAYS], "seed": 3, "max_tokens": 300, "tools": [FUNCTION], "response_format":
           {"type": "json_schema", "json_schema": {"name": "call", "schema": CALL}}}
# A thousandth of what its prompts take.
LATE = {"prompt": [[5 + (i + k) % 250 for k in range(1900)] for i in range(8)], "max_tokens": 1, "time_limit": 0.0001}
REPLIES = {
    "/v1/completions": [
        {"prompt": "x", "logprobs": 5, "max_tokens": 8, "seed": 1},
        {"prompt": "x", "logprobs": 2, "max_tokens": 8, "stream": True},
        {"prompt": "x", "max_tokens": 4, "stream": True, "stream_options": {"include_usage": True}},
        {"prompt": ["x", [1, 5], "z"], "max_tokens": 4, "n": 2, "best_of": 3, "logprobs": 0},
        {"prompt": ["x", "y"], "max_tokens": 4, "n": 2, "echo": True, "logprobs": 1, "return_token_ids": True},
        {"prompt": ["x", "y"], "max_tokens": 4, "n": 2, "echo": True, "logprobs": 1, "return_token_ids": True,
         "stream": True},
        {"prompt": "the", "max_tokens": 0, "echo": True, "logprobs": 5},
        {"prompt": "the", "max_tokens": 0, "echo": True, "stream": True},
        {"prompt": "x", "max_tokens": 200, "response_format": {"type": "json_object"}},
        {"prompt": "x", "max_tokens": 1000, "ignore_eos": True, "time_limit": 0.02},
        {"prompt": "x", "max_tokens": 1000, "ignore_eos": True, "time_limit": 0.02, "stream": True},
        LATE, dict(LATE, stream=True),
    ],
    "/v1/chat/completions": [
        {"messages": [SAYS], "max_tokens": 8, "n": 2, "logprobs": True, "top_logprobs": 20, "return_token_ids": True},
        {"messages": [SAYS], "max_tokens": 8, "n": 2, "logprobs": True, "top_logprobs": 2, "return_token_ids": True,
         "stream": True, "stream_options": {"include_usage": True}},
        {"messages": [SAYS], "max_tokens": 8, "logprobs": True, "stream": True},
        {"messages": [SAYS], "max_tokens": 0, "logprobs": True},
        {"messages": [SAYS], "max_tokens": 0, "stream": True},
        {"messages": [SAYS], "max_tokens": 8, "tools": [FUNCTION]},
        CALLING, dict(CALLING, stream=True, n=2), dict(CALLING, tool_choice="none"),
    ],
    "/v1/embeddings": [{"input": ["a", "b"]}, {"input": "a", "encoding_format": "base64"}, {"input": [[1, 5], "b"]}],
    "/tokenize": [{"prompt": "a b", "return_token_strs": True}],
    "/detokenize": [{"tokens": []}],
    "/v1/mbool/models/{model}/promote": [{"to": "tiny"}],
    "/v1/mbool/models/{model}/pin": [{}, {"pinned": False}],
}
# What fields ask of each other: (path, body, the field that is told).
DISAGREE = [
    ("/v1/completions", {"prompt": "x", "stream_options": {}}, "stream_options"),
    ("/v1/completions", {"prompt": "x", "max_tokens": 3, "min_tokens": 4}, "min_tokens"),
    ("/v1/completions", {"prompt": "x", "n": 3, "best_of": 2}, "best_of"),
    ("/v1/completions", {"prompt": "x", "best_of": 2, "stream": True}, "best_of"),
    ("/v1/completions", {"prompt": ["x"] * 65, "n": 2}, "n"),
    ("/v1/completions", {"prompt": ["x"] * 65, "best_of": 2}, "n"),
    ("/v1/completions", {"prompt": "x" * 100000}, "prompt"),
    ("/v1/completions", {"prompt": "x", "model": "none"}, "model"),
    ("/v1/completions", "not JSON", None),
    ("/v1/completions", "", None),
    ("/v1/completions", '{"prompt": "x", "n": 1, "n": 1}', None),
    ("/v1/chat/completions", {"messages": [SAYS], "top_logprobs": 1}, "top_logprobs"),
    ("/v1/chat/completions", {"messages": [SAYS], "max_completion_tokens": 3, "min_tokens": 4}, "min_tokens"),
    ("/v1/chat/completions", {"messages": [SAYS], "max_completion_tokens": 4000, "max_tokens": 1}, "messages"),
    ("/v1/chat/completions", {"messages": [{"role": "judge", "content": "x"}]}, "messages"),
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": "x" * 100000}]}, "messages"),
    ("/v1/chat/completions", {"messages": [SAYS], "stream_options": {}}, "stream_options"),
    ("/v1/mbool/models/{model}/promote", {"to": "none"}, "to"),
    ("/v1/mbool/models/{model}/promote", "", None),
    ("/v1/mbool/models/{model}/pin", "[]", None),
]


def check_replies(document, daemon):
    for path, bodies in REPLIES.items():
        for body in bodies:
            status, headers, text = daemon.ask("POST", path, body)
            expected = 504 if body is LATE else 200
            check(status == expected, path, str(body)[:80], status, text[:200])
            late = b'"code":"time_limit"' in text
            check(late == (body.get("prompt") is LATE["prompt"]), path, str(body)[:80], text[:200])
            check_reply(document, document["paths"][path]["post"], status, headers, text, (path, str(body)[:80]))
    for path, body, param in DISAGREE:
        status, headers, text = daemon.ask("POST", path, body)
        error = json.loads(text).get("error", {})
        check(status in (400, 404) and error.get("param") == param, path, str(body)[:80], status, text[:200])
        check_reply(document, document["paths"][path]["post"], status, headers, text, (path, str(body)[:80]))


def check_kept(document, daemon):
    """Lists of more than one, with and without more; a stream of events to its end; what is refused."""
    kept = Kept(daemon)
    jobs, paths = "/v1/fine_tuning/jobs", document["paths"]
    for path, query in (("/v1/files", "?limit=1"), ("/v1/files", "?order=asc&limit=2"), (jobs, "?limit=1"),
                        (jobs + "/{id}/events", "?limit=1"), (jobs + "/{id}/checkpoints", "?limit=1"),
                        ("/v1/files", "?limit=0"), (jobs, "?order=up"), (jobs + "/{id}/events", "?after=x"),
                        (jobs + "/{id}/events", "?stream=x"), (jobs, "?limit=x")):
        status, headers, body = daemon.ask("GET", kept.path(path, "get") + query)
        bad = any(x in query for x in ("=0", "=x", "=up"))
        check(status == (400 if bad else 200), path, query, status, body[:200])
        check_reply(document, paths[path]["get"], status, headers, body, (path, query))
    status, headers, body = daemon.ask("DELETE", kept.path("/v1/files/{id}", "get"))
    check(status == 409 and json.loads(body)["error"]["code"] == "file_in_use", status, body[:200])
    check_reply(document, paths["/v1/files/{id}"]["delete"], status, headers, body, "a file in use")
    for path, operations in paths.items():
        if "{id}" in path and not path.startswith("/v1/models"):
            for method, operation in operations.items():
                status, headers, body = daemon.ask(method.upper(), path.replace("{id}", "none"))
                check(status == 404, method, path, status)
                check_reply(document, operation, status, headers, body, (method, path, "none"))
    for action in ("cancel", "cancel"):
        status, headers, body = daemon.ask("POST", "%s/%s/%s" % (jobs, kept.job, action))
        check_reply(document, paths[jobs + "/{id}/" + action]["post"], status, headers, body, action)
    check(status == 409, "cancelled twice", status)
    path = jobs + "/{id}/events"
    status, headers, body = daemon.ask("GET", kept.path(path, "get") + "?stream=true")
    check(status == 200 and body.endswith(b"data: [DONE]\n\n"), status, body[-100:])
    check_reply(document, paths[path]["get"], status, headers, body, "a stream of events")


def check_full(document, daemon):
    """A queue that one request fills."""
    many = json.dumps({"prompt": "x", "n": 128, "max_tokens": 1500, "ignore_eos": True})
    first = daemon.begin("POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s" % (len(many), many))
    for _ in range(600):
        if b"mboold_requests_waiting 0" not in daemon.ask("GET", "/metrics")[2]:
            break
        time.sleep(0.01)
    for path in ("/v1/completions", "/v1/chat/completions"):
        status, headers, text = daemon.ask("POST", path, dict(GOOD[path], n=128))
        check(status == 429 and json.loads(text)["error"]["code"] == "queue_full", path, "full", status, text[:200])
        check_reply(document, document["paths"][path]["post"], status, headers, text, (path, "full"))
    first.close()


def check_calls(daemon):
    """That there were calls to be held against the document, whole and in a stream."""
    reply = json.loads(daemon.ask("POST", "/v1/chat/completions", CALLING)[2])
    choice = reply["choices"][0]
    check(choice["finish_reason"] == "tool_calls" and "tool_calls" in choice["message"], reply)
    stream = daemon.ask("POST", "/v1/chat/completions", dict(CALLING, stream=True))[2].decode()
    check('"finish_reason":"tool_calls"' in stream and '"tool_calls":[{' in stream, stream[:300])


def main():
    root, mbool, mboold, make_folder = sys.argv[1:5]
    document = yaml.safe_load(source(root, "proto/openapi.yaml"))
    for name, schema in document["components"]["schemas"].items():
        jsonschema.Draft202012Validator.check_schema(schema)
    with tempfile.TemporaryDirectory() as directory:
        model = make_model(mbool, make_folder, directory)
        check_keys(document, mboold, model, directory, root)
        daemon = Daemon(mboold, model)
        try:
            version = json.loads(daemon.ask("GET", "/version")[2])["version"]
            check(version == document["info"]["version"], "version", version)
            check_routes(document, daemon, root)
            check_codecs(document, root)
            for path in GOOD:
                check_fields(document, daemon, path)
            check_long_ids(document, daemon)
            check_replies(document, daemon)
            check_calls(daemon)
            check_full(document, daemon)
            check_kept(document, daemon)
            check_before(document, daemon)
            metrics = daemon.ask("GET", "/metrics")[2].decode()
            codes = set(re.findall(r'code="(\w+)"', metrics))
            check("other" not in codes and {"408", "429", "501", "504"} <= codes, "a status without a counter", codes)
            check(daemon.process.poll() is None, "the daemon ended")
        finally:
            daemon.process.terminate()
            daemon.process.wait()
    print("CHECKS %d RUN %d FAILED" % (checks, failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""Goal:   mboold and proto/openapi.yaml agree, both ways.
Method: the daemon is asked for every path of the document, and the router's table is read for every path of
        the daemon. For every field of a body: a value on each of the document's bounds must be taken,
        and one beyond refused by name; the codecs' tables are read for fields that the document
        lacks. Replies, good and bad, whole and streamed, are held against the document's schemas, which
        allow no field that they do not name and require all that they do.
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


class Daemon:
    def __init__(self, mbool, mboold, make_folder, directory):
        subprocess.run([make_folder, os.path.join(directory, "float")], check=True, stdout=subprocess.DEVNULL)
        config = os.path.join(directory, "float", "tokenizer_config.json")
        told = json.load(open(config)) if os.path.exists(config) else {}
        told["chat_template"] = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
        with open(config, "w") as f:
            json.dump(told, f)
        model = os.path.join(directory, "tiny.mbool")
        subprocess.run([mbool, "convert", os.path.join(directory, "float"), "-o", model, "--kernels", "2", "--group", "32"],
                       check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        self.process = subprocess.Popen([mboold, "--model", "tiny=" + model, "--listen", "127.0.0.1:%d" % self.port],
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(600):
            try:
                self.ask("GET", "/readyz")
                return
            except OSError:
                time.sleep(0.1)
        raise RuntimeError("mboold does not answer")

    def ask(self, method, path, body=None):
        """(status, headers, bytes)"""
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        text = body if isinstance(body, (str, bytes, type(None))) else json.dumps(body)
        c.request(method, path, text, {"Content-Type": "application/json"} if body is not None else {})
        reply = c.getresponse()
        return reply.status, reply.headers, reply.read()


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


def check_reply(document, operation, status, headers, body, what):
    described = operation["responses"].get(str(status))
    check(described is not None, what, "answers", status, "which is not described")
    if described is None:
        return
    described = resolve(document, described)
    kind = headers["Content-Type"].split(";")[0]
    check(kind in described["content"], what, "answers", kind)
    if kind not in described["content"] or kind == "text/plain":
        return
    v = validator(document, described["content"][kind]["schema"])
    if kind == "application/json":
        replies = [json.loads(body)]
    else:
        lines = [line[6:] for line in body.decode().split("\n") if line.startswith("data: ")]
        check(lines[-1] == "[DONE]", what, "ends without [DONE]")
        replies = [json.loads(line) for line in lines[:-1]]
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
    for path, operations in document["paths"].items():
        asked = path.replace("{id}", "tiny")
        for method in ("get", "post", "put", "delete"):
            status, headers, body = daemon.ask(method.upper(), asked)
            if method in operations:
                check(status not in (404, 405), method, path, status)
                check_reply(document, operations[method], status, headers, body, (method, path))
            else:
                check(status == 405, method, path, status)
                check(set(headers.get("Allow", "").lower().replace(" ", "").split(",")) - {"head"} == set(operations),
                      method, path, "Allow:", headers.get("Allow"))
    check(daemon.ask("GET", "/v1/nothing")[0] == 404, "a path that is not there")


# A body that is good for each route, so that one field at a time can be tried.
GOOD = {
    "/v1/completions": {"prompt": "x", "max_tokens": 1},
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "x"}], "max_tokens": 1},
    "/v1/embeddings": {"input": "x"},
    "/tokenize": {"prompt": "x"},
    "/detokenize": {"tokens": [1]},
}
# What a field needs beside it; values in bounds that this small model can not serve.
BESIDE = {"stream_options": {"stream": True}, "top_logprobs": {"logprobs": True}}
BEYOND_MODEL = {"max_tokens": 1048576, "max_completion_tokens": 1048576, "min_tokens": 1048576, "model": "m" * 128,
                "dimensions": 1}
# Whether these are served depends on the model's template, and on the clock.
PERHAPS = {"tools", "time_limit"}


def values(document, schema):
    """(values that the schema allows, values that it does not): at its bounds and just beyond."""
    schema = resolve(document, schema)
    good, bad = [], []
    for branch in schema.get("anyOf", []) + schema.get("oneOf", []):
        good += values(document, branch)[0]
    if good:
        return good, [{"no": "such"}] if "anyOf" in schema else [7]
    if "const" in schema or "enum" in schema:
        return schema.get("enum", [schema.get("const")]), ["no such value"]
    kind = schema["type"]
    step = 1 if kind == "integer" else 0.001
    if kind in ("integer", "number"):
        bad = ["1", True]
        for name, outside in (("minimum", -step), ("maximum", step)):
            if name in schema:
                good.append(schema[name])
                bad.append(schema[name] + outside)
        if "exclusiveMinimum" in schema:
            good.append(schema["exclusiveMinimum"] + step)
            bad.append(schema["exclusiveMinimum"] - step)
        good = good or [1]
    elif kind == "string":
        most = schema.get("maxLength", 1)
        good = ["x" * n for n in {schema.get("minLength", min(1, most)), most}]
        bad = [7] + (["x" * (schema["maxLength"] + 1)] if "maxLength" in schema else [])
        bad += [""] if schema.get("minLength") else []
    elif kind == "boolean":
        good, bad = [True, False], [1, "true"]
    elif kind == "array":
        items, bad_items = values(document, schema["items"])
        item = items[0]
        good = [[item] * n for n in {max(schema.get("minItems", 0), 1), min(schema.get("maxItems", 1), 8)}]
        bad = [7] + [[b] for b in bad_items if not isinstance(b, (dict, list))][:2]
        bad += [[]] if schema.get("minItems") else []
        bad += [[item] * (schema["maxItems"] + 1)] if "maxItems" in schema else []
    elif kind == "object":
        good, bad = [{}], [7, "x"]
        if "required" in schema:
            one = {}
            for name in schema["required"]:
                choices = values(document, schema["properties"][name])[0]
                one[name] = choices[0]
                if "pattern" in resolve(document, schema["properties"][name]):
                    one[name] = "a_name"
            good = [one]
        if schema.get("maxProperties") == 0:
            bad.append({"a": 1})
    return good, bad


def check_fields(document, daemon, path):
    operation = document["paths"][path]["post"]
    schema = resolve(document, operation["requestBody"]["content"]["application/json"]["schema"])
    for name, field in schema["properties"].items():
        good, bad = values(document, field)
        for value in good:
            body = dict(GOOD[path], **BESIDE.get(name, {}), **{name: value})
            status, headers, text = daemon.ask("POST", path, body)
            check_reply(document, operation, status, headers, text, (path, name, str(value)[:60]))
            expected = {400, 404} if BEYOND_MODEL.get(name) == value else {200}
            # The smallest allowed model names nothing that is here, too.
            expected |= {404} if name == "model" else set()
            expected |= set(map(int, operation["responses"])) if name in PERHAPS else set()
            check(status in expected, path, name, str(value)[:60], "is allowed, and answered", status, text[:200])
        for value in bad:
            body = dict(GOOD[path], **BESIDE.get(name, {}), **{name: value})
            status, headers, text = daemon.ask("POST", path, body)
            check_reply(document, operation, status, headers, text, (path, name, str(value)[:60]))
            param = json.loads(text).get("error", {}).get("param") if status == 400 else None
            check(status == 400 and param and re.split(r"[.\[]", param)[0] == name, path, name, str(value)[:60],
                  "is not allowed, and answered", status, text[:200])
        status, _, text = daemon.ask("POST", path, dict(GOOD[path], **{name: None}))
        check(status == (400 if name in schema["required"] else 200), path, name, "null", status, text[:200])
    for name in schema["required"]:
        body = {k: v for k, v in GOOD[path].items() if k != name}
        check(daemon.ask("POST", path, body)[0] == 400, path, name, "is required")


# Where each route's codec names the fields that it reads.
CODECS = {
    "/v1/completions": (["proto/json/sampling_json.c", "proto/json/completion_json.c"], r'^    \{ "(\w+)",\s'),
    "/v1/chat/completions": (["proto/json/sampling_json.c", "proto/json/chat_json.c"], r'^    \{ "(\w+)",\s'),
    "/v1/embeddings": (["proto/json/embedding_json.c"], r'json_object_get\(root, "(\w+)"\)'),
    "/tokenize": (["proto/json/tokenize_json.c"], r'root, "(prompt|\w*token_strs|add\w+)"'),
    "/detokenize": (["proto/json/tokenize_json.c"], r'root, "(tokens)"'),
}


def check_codecs(document, root):
    for path, (files, pattern) in CODECS.items():
        content = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]
        described = set(resolve(document, content["schema"])["properties"])
        read = {name for f in files for name in re.findall(pattern, source(root, f), re.M)} | {"model"}
        check(read == described, path, "only read:", read - described, "only described:", described - read)


def check_replies(document, daemon):
    for path, bodies in {
        "/v1/completions": [
            {"prompt": "x", "logprobs": 5, "max_tokens": 8, "seed": 1},
            {"prompt": "x", "logprobs": 2, "max_tokens": 8, "stream": True},
            {"prompt": "x", "max_tokens": 4, "stream": True, "stream_options": {"include_usage": True}},
            {"prompt": "x", "max_tokens": 200, "response_format": {"type": "json_object"}},
            {"prompt": ["x", "y"], "n": 2, "best_of": 3, "max_tokens": 3, "return_token_ids": True},
            {"prompt": "xyz", "echo": True, "logprobs": 2, "max_tokens": 2},
            {"prompt": "x" * 100000}, {"model": "none", "prompt": "x"}, "not JSON", "",
        ],
        "/v1/chat/completions": [dict(GOOD["/v1/chat/completions"], **more) for more in (
            {"logprobs": True, "top_logprobs": 3, "max_tokens": 5, "n": 2}, {"stream": True, "max_tokens": 5},
            {"stream": True, "logprobs": True, "stream_options": {"include_usage": True}, "return_token_ids": True},
            {"response_format": {"type": "json_object"}, "max_tokens": 100}, {"messages": []})],
        "/v1/embeddings": [{"input": ["a", "b"]}, {"input": "a", "encoding_format": "base64"}, {"input": 7}],
        "/tokenize": [{"prompt": "a b", "return_token_strs": True}],
    }.items():
        for body in bodies:
            operation = document["paths"][path]["post"]
            check_reply(document, operation, *daemon.ask("POST", path, body), (path, str(body)[:80]))


def main():
    root, mbool, mboold, make_folder = sys.argv[1:5]
    document = yaml.safe_load(source(root, "proto/openapi.yaml"))
    for name, schema in document["components"]["schemas"].items():
        jsonschema.Draft202012Validator.check_schema(schema)
    with tempfile.TemporaryDirectory() as directory:
        daemon = Daemon(mbool, mboold, make_folder, directory)
        try:
            version = json.loads(daemon.ask("GET", "/version")[2])["version"]
            check(version == document["info"]["version"], "version", version)
            check_routes(document, daemon, root)
            check_codecs(document, root)
            for path in GOOD:
                check_fields(document, daemon, path)
            check_replies(document, daemon)
        finally:
            daemon.process.terminate()
            daemon.process.wait()
    print("CHECKS %d RUN %d FAILED" % (checks, failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

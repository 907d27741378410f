#!/usr/bin/env python3
"""Goal:   with a real model, too, answers over HTTP parse and validate, and are more than the shortest
        text that does.
Method: stories3M is converted, mboold serves it, and schemas of the kinds that people send are asked
        for with several seeds and temperatures; the package jsonschema judges.
Usage:  test_formats_real.py MBOOL MBOOLD"""
import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile
import time

try:
    import jsonschema
except ImportError:
    print("SKIPPED the package python3-jsonschema is not here\nCHECKS 1 RUN 0 FAILED")
    sys.exit(77)

STORY = {"type": "object", "properties": {
    "title": {"type": "string", "maxLength": 30}, "animal": {"enum": ["cat", "dog", "bird"]},
    "friends": {"type": "array", "items": {"type": "string", "maxLength": 12}, "minItems": 1, "maxItems": 3},
    "happy": {"type": "boolean"}, "age": {"type": ["integer", "null"], "minimum": 1, "maximum": 12}},
    "required": ["title", "animal", "friends", "happy", "age"], "additionalProperties": False}
TREE = {"$ref": "#/$defs/person", "$defs": {"person": {"type": "object", "properties": {
    "name": {"type": "string", "pattern": "^[A-Z][a-z]{1,9}$"},
    "children": {"type": "array", "items": {"$ref": "#/$defs/person"}, "maxItems": 2}},
    "required": ["name", "children"], "additionalProperties": False}}}
CHOICE = {"anyOf": [{"type": "object", "properties": {"kind": {"const": "day"}, "date": {"type": "string", "format": "date"}},
                     "required": ["kind", "date"], "additionalProperties": False},
                    {"type": "object", "properties": {"kind": {"const": "place"}, "x": {"type": "number", "minimum": -1, "maximum": 1}},
                     "required": ["kind", "x"], "additionalProperties": False}]}
SCHEMAS = [STORY, TREE, CHOICE]


def serve(mbool, mboold, folder, directory):
    model = os.path.join(directory, "stories.mbool")
    subprocess.run([mbool, "convert", folder, "-o", model, "--kernels", "4"], check=True,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    daemon = subprocess.Popen([mboold, "--model", "stories=" + model, "--listen", "127.0.0.1:%d" % port],
                              stderr=subprocess.DEVNULL)
    for _ in range(300):
        try:
            ask(port, {"prompt": "x", "max_tokens": 1})
            return daemon, port
        except OSError:
            time.sleep(0.1)
    raise RuntimeError("mboold does not answer")


def ask(port, body):
    c = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    c.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
    reply = c.getresponse()
    return reply.status, json.loads(reply.read())


def main():
    mbool, mboold = sys.argv[1:3]
    folder = os.path.join(os.environ.get("MB_DATA", ""), "models/stories3M")
    if not os.path.isdir(folder):
        print("SKIPPED the model stories3M is not here\nCHECKS 1 RUN 0 FAILED")
        return 77
    checks = failed = cut = 0
    with tempfile.TemporaryDirectory() as directory:
        daemon, port = serve(mbool, mboold, folder, directory)
        try:
            for schema in SCHEMAS + [None]:
                for seed in range(6):
                    checks += 1
                    how = {"type": "json_object"} if schema is None else {
                        "type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
                    body = {"prompt": "Once upon a time there was a", "max_tokens": 400, "seed": seed,
                            "temperature": [0, 0.7, 1.3][seed % 3], "response_format": how}
                    status, reply = ask(port, body)
                    choice = reply["choices"][0] if status == 200 else None
                    if choice and choice["finish_reason"] == "length":
                        cut += 1  # strings without maxLength, in any object
                        continue
                    try:
                        jsonschema.validate(json.loads(choice["text"]), schema or {"type": "object"})
                    except Exception as e:
                        failed += 1
                        print("FAILED", status, str(e).split("\n")[0], reply, body)
                    if seed == 1:
                        print(choice["text"])
        finally:
            daemon.terminate()
            daemon.wait()
    if cut > 8:
        failed += 1
        print("FAILED", cut, "answers were cut")
    print("CHECKS %d RUN %d FAILED" % (checks, failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

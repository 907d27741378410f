#!/usr/bin/env python3
"""Goal:   whatever is drawn through a schema's masks is JSON and valid under the schema.
Method: schemas written by hand and hundreds generated from a printed seed; walk_schemas draws
        texts through their masks, with a vocabulary that crosses every border of JSON, and
        with that of GPT-2; the package jsonschema, which shares nothing with ours, judges.
Usage:  test_jsonschema.py WALK_SCHEMAS [N_GENERATED [SEED]]"""
import datetime
import json
import os
import random
import re
import subprocess
import sys

try:
    import jsonschema
except ImportError:
    print("SKIPPED the package python3-jsonschema is not here\nCHECKS 1 RUN 0 FAILED")
    sys.exit(77)

NODE = {"$defs": {"node": {"type": "object", "properties": {
    "value": {"type": "integer"}, "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}},
    "required": ["value", "next"], "additionalProperties": False}}, "$ref": "#/$defs/node"}
EXPRESSION = {"$ref": "#/$defs/e", "$defs": {
    "e": {"anyOf": [{"$ref": "#/$defs/leaf"}, {"$ref": "#/$defs/sum"}]},
    "leaf": {"type": "object", "properties": {"op": {"const": "leaf"}, "n": {"type": "number"}},
             "required": ["op", "n"], "additionalProperties": False},
    "sum": {"type": "object", "properties": {
        "op": {"const": "sum"}, "of": {"type": "array", "items": {"$ref": "#/$defs/e"}, "minItems": 1}},
        "required": ["op", "of"], "additionalProperties": False}}}

BY_HAND = [
    {"type": "object"}, {}, True, {"type": "array"}, {"type": "string"}, {"type": "number"},
    {"type": "integer"}, {"type": "boolean"}, {"type": "null"}, {"type": ["string", "null"]},
    {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "integer"}},
     "required": ["a"], "additionalProperties": False},
    {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "integer"}},
     "additionalProperties": {"type": "boolean"}},
    {"type": "object", "properties": {"name": {}, "nam": {}, "é": {}, "": {}},
     "additionalProperties": {"type": "null"}},
    {"type": "object", "required": ["x", "y"], "additionalProperties": {"type": "integer"}},
    {"type": "object", "properties": {"a\"b": {"const": "\\ \"\n\x01é€😀"}}, "required": ["a\"b"],
     "additionalProperties": True},
    {"enum": ["a", "ab", "abc", 1, 12, 1.5, 1e30, None, True, [1, [2, {}]], {"k": {"l": []}, "m": 0}]},
    {"const": {"a": [1, 2, {"b": None}], "c": ""}}, {"const": []}, {"const": -0.125},
    {"type": "string", "minLength": 3, "maxLength": 5}, {"type": "string", "maxLength": 0},
    {"type": "string", "minLength": 2}, {"type": "string", "maxLength": 300},
    {"type": "string", "pattern": "^[a-z]{2,4}-\\d+$"}, {"type": "string", "pattern": "b"},
    {"type": "string", "pattern": "^(foo|bar)?$"}, {"type": "string", "pattern": "^\\S+@\\S+$"},
    {"type": "string", "pattern": "^[^a-c\\\\\"]*$", "maxLength": 6, "minLength": 2},
    {"type": "string", "pattern": "^a.c|x$|\\u00e9{2}"}, {"type": "string", "pattern": "^\\w+( \\w+)*$"},
    {"type": "string", "pattern": "^(?:[^\\d]|\\D)+$"}, {"type": "string", "pattern": "[\\]\\-x]+?"},
    {"type": "string", "format": "date"}, {"type": "string", "format": "date-time"},
    {"type": "string", "format": "time"}, {"type": "string", "format": "uuid"},
    {"type": "string", "format": "email"}, {"type": "string", "format": "ipv4"},
    {"type": "integer", "minimum": 0}, {"type": "integer", "minimum": -5, "maximum": 17},
    {"type": "integer", "exclusiveMinimum": 99, "exclusiveMaximum": 101},
    {"type": "integer", "minimum": 1.5, "maximum": 4.2}, {"type": "integer", "maximum": -1},
    {"type": "integer", "minimum": 123, "maximum": 45678},
    {"type": "integer", "minimum": -9223372036854775808, "maximum": 9223372036854775807},
    {"type": "number", "minimum": 0, "maximum": 1}, {"type": "number", "exclusiveMinimum": 0},
    {"type": "number", "minimum": -0.5, "exclusiveMaximum": 0.25}, {"type": "number", "maximum": 1e20},
    {"type": "number", "exclusiveMinimum": 9.75, "exclusiveMaximum": 10.125},
    {"type": "number", "exclusiveMinimum": -1, "exclusiveMaximum": 1},
    {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 4},
    {"type": "array", "prefixItems": [{"type": "string"}, {"type": "boolean"}], "items": False},
    {"type": "array", "prefixItems": [{"type": "null"}], "items": {"type": "number"}, "minItems": 3},
    {"type": "array", "maxItems": 0}, {"type": "array", "items": {"type": "array", "maxItems": 2}},
    {"type": "array", "items": False},
    {"anyOf": [{"type": "string", "maxLength": 2}, {"type": "integer"}, {"type": "array", "items": {"type": "null"}}]},
    {"oneOf": [{"type": "object", "properties": {"k": {"const": 1}, "v": {"type": "string"}}, "required": ["k", "v"]},
               {"type": "object", "properties": {"k": {"const": 2}, "w": {"type": "null"}}, "required": ["k", "w"]}]},
    {"allOf": [{"type": "object", "properties": {"a": {"type": "integer", "minimum": 3}}},
               {"properties": {"a": {"maximum": 5}, "b": {"type": "string"}}, "required": ["a", "b"]}]},
    {"allOf": [{"type": ["string", "integer"]}, {"type": ["integer", "null"]}], "maximum": 9},
    {"type": "string", "allOf": [{"minLength": 2}, {"maxLength": 3}, {"pattern": "^a"}]},
    {"type": "object", "properties": {"a": False, "b": {"type": "null"}}, "required": ["b"]},
    NODE, EXPRESSION,
    {"type": "object", "properties": {"children": {"type": "array", "items": {"$ref": "#"}},
                                      "name": {"type": "string"}},
     "required": ["name", "children"], "additionalProperties": False},
    {"type": "array", "items": {"anyOf": [{"type": "array", "items": {"$ref": "#"}}, {"type": "array", "maxItems": 1}]}},
    {"definitions": {"a/b~c %": {"type": "boolean"}}, "$ref": "#/definitions/a~1b~0c%20%25"},
    {"type": "object", "properties": {("p%d" % i): {"type": ["null", "integer"]} for i in range(40)}},
    {"enum": ["x", 3, None, 12], "type": ["string", "integer"], "maximum": 10},
    {"type": "object", "properties": {"when": {"type": "string", "format": "date-time", "pattern": "^2\\d{3}-0[1-3]"}},
     "required": ["when"], "additionalProperties": False},
]

# Each must be refused, and the message must name what it names.
REFUSED = [
    ({"type": "array", "uniqueItems": True}, "uniqueItems"), ({"not": {}}, "not"),
    ({"if": {}}, "if"), ({"type": "object", "patternProperties": {}}, "patternProperties"),
    ({"type": "number", "multipleOf": 3}, "multipleOf"), ({"type": "string", "format": "iri"}, "iri"),
    ({"type": "string", "pattern": "(?=a)"}, "pattern"), ({"type": "string", "pattern": "(a"}, "pattern"),
    ({"type": "string", "pattern": "a\\1"}, "pattern"), ({"type": "string", "pattern": "[b-a]"}, "pattern"),
    ({"type": "string", "pattern": "a{3,2}"}, "pattern"), ({"type": "string", "pattern": "*"}, "pattern"),
    ({"type": "string", "pattern": "a^b"}, "pattern"), ({"type": "thing"}, "type"), (3, "schema"),
    ({"type": "string", "minLength": -1}, "minLength"), ({"$ref": "http://x/y"}, "$ref"),
    ({"$ref": "#/$defs/none"}, "$ref"), ({"properties": []}, "properties"), ({"anyOf": []}, "anyOf"),
    ({"required": [1]}, "required"), ({"minimum": "a"}, "minimum"), (False, "contradicts"),
    ({"$ref": "#"}, "recursion"), ({"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}, "recursion"),
    ({"type": "integer", "minimum": 3, "maximum": 2}, "contradicts"),
    ({"type": "string", "minLength": 3, "maxLength": 2}, "contradicts"),
    ({"type": "string", "maxLength": 1000000}, "too large"),
    ({"type": "string", "pattern": "^((a{1000}){1000}){1000}$"}, "too large"),
    ({"enum": ["a"], "pattern": "b"}, "pattern"), ({"colour": "red"}, "colour"),
]


def format_checker():
    """Dates and times by Python's own reader, which knows the calendar."""
    checker = jsonschema.FormatChecker(["date", "uuid", "email", "ipv4"])

    def has_zone(read):
        def check(value):
            if not isinstance(value, str):
                return True
            padded = re.sub(r"\.(\d+)", lambda m: "." + m.group(1).ljust(6, "0"), value)
            return read(padded.replace("Z", "+00:00")).tzinfo is not None
        return check

    checker.checks("date-time", ValueError)(has_zone(datetime.datetime.fromisoformat))
    checker.checks("time", ValueError)(has_zone(datetime.time.fromisoformat))
    return checker


def generated(rng, depth):
    """A random schema whose keywords are all honoured; branches of oneOf differ in type."""
    kinds = ["string", "integer", "number", "boolean", "null", "enum", "pattern", "format"]
    if depth > 0:
        kinds += ["object", "object", "array", "anyOf", "allOf"]
    kind = rng.choice(kinds)
    if kind == "string":
        s = {"type": "string"}
        if rng.random() < 0.5:
            s["minLength"] = rng.randrange(4)
        if rng.random() < 0.5:
            s["maxLength"] = s.get("minLength", 0) + rng.randrange(6)
        return s
    if kind in ("integer", "number"):
        s = {"type": kind}
        scale = rng.choice([1, 1, 0.25, 0.001, 1000])
        lo = rng.randrange(-300, 300) * scale
        if rng.random() < 0.6:
            s[rng.choice(["minimum", "exclusiveMinimum"])] = lo
        if rng.random() < 0.6:
            s[rng.choice(["maximum", "exclusiveMaximum"])] = lo + (2 + rng.randrange(500)) * max(scale, 1 if kind == "integer" else 0)
        return s
    if kind in ("boolean", "null"):
        return {"type": kind}
    if kind == "enum":
        return {"enum": rng.sample(["a", "b", "a b", "é", "", 0, 1, 10, 2.5, None, True, False, [], {}, [1]], rng.randrange(1, 6))}
    if kind == "pattern":
        atoms = ["a", "[b-d]", "\\d", ".", "(?:xy|z)", "é", "\\\"", "[^a]", "(?:a|b*c)", "\\s"]
        body = "".join(rng.choice(atoms) + rng.choice(["", "", "*", "+", "?", "{2}", "{1,3}", "{2,}"])
                       for _ in range(rng.randrange(1, 5)))
        if rng.random() < 0.2:
            return {"type": "string", "pattern": rng.choice(["^b", "\\d", "[^x]y?"])}
        s = {"type": "string", "pattern": "^" + body + "$"}
        if rng.random() < 0.3:
            s["maxLength"] = 40
        return s
    if kind == "format":
        return {"type": "string", "format": rng.choice(["date", "date-time", "time", "uuid", "email", "ipv4"])}
    if kind == "array":
        s = {"type": "array", "items": generated(rng, depth - 1)}
        if rng.random() < 0.5:
            s["minItems"] = rng.randrange(3)
        if rng.random() < 0.5:
            s["maxItems"] = s.get("minItems", 0) + rng.randrange(3)
        if rng.random() < 0.2:
            s["prefixItems"] = [generated(rng, depth - 1)]
        return s
    if kind == "anyOf":
        return {"anyOf": [generated(rng, depth - 1) for _ in range(rng.randrange(1, 4))]}
    names = rng.sample(["a", "b", "ab", "name", "id", "é", "x y", "\"q\""], rng.randrange(5))
    s = {"type": "object", "properties": {n: generated(rng, depth - 1) for n in names}}
    if rng.random() < 0.7:
        s["required"] = [n for n in names if rng.random() < 0.5]
    if rng.random() < 0.7:
        s["additionalProperties"] = rng.choice([False, False, True, generated(rng, depth - 1)])
    if kind == "allOf":
        return {"allOf": [s, {"type": "object", "properties": {"id": rng.choice([True, {"type": ["string", "integer", "null"]}])}}]}
    return s


def draw(walk, schemas, count, tokenizer=None):
    """[(line, text bytes or None, message)]"""
    lines = b"".join(json.dumps(s).encode() + b"\n" for s in schemas)
    run = subprocess.run([walk, str(count)] + ([tokenizer] if tokenizer else []), input=lines,
                         stdout=subprocess.PIPE, check=True)
    at, results = 0, []
    while at < len(run.stdout):
        end = run.stdout.index(b"\n", at)
        word, rest = run.stdout[at:end].split(b" ", 1)
        at = end + 1
        if word == b"text":
            line, n = map(int, rest.split())
            results.append((line, run.stdout[at:at + n], None))
            at += n + 1
        else:
            line, _, message = rest.partition(b" ")
            results.append((int(line), None, (word + b" " + message).decode()))
    return results


def main():
    walk = sys.argv[1]
    n_generated = int(sys.argv[2]) if len(sys.argv) > 2 else 300
    seed = int(sys.argv[3]) if len(sys.argv) > 3 else 20250801
    rng = random.Random(seed)
    checker = format_checker()
    failed = checks = empty = 0

    def fail(*what):
        nonlocal failed
        failed += 1
        print("FAILED", *what)

    def judge(schemas, results, may_contradict):
        nonlocal checks, empty
        for line, text, message in results:
            checks += 1
            schema = schemas[line]
            if text is None:
                if message.startswith("endless") and "pattern" in json.dumps(schema):
                    empty += 1  # chance need not find what is asked for before the text is long
                elif may_contradict and message.startswith("refused") and "contradicts" in message:
                    empty += 1
                else:
                    fail(message, json.dumps(schema))
                continue
            try:
                value = json.loads(text.decode("utf-8"))
                jsonschema.Draft202012Validator(schema, format_checker=checker).validate(value)
            except Exception as e:
                fail(type(e).__name__, str(e).split("\n")[0], json.dumps(schema), text)

    tokenizers = [None]
    gpt2 = os.path.join(os.environ.get("MB_DATA", ""), "tokenizers/gpt2/tokenizer.json")
    if os.path.exists(gpt2):
        tokenizers.append(gpt2)
    else:
        print("SKIPPED GPT-2's vocabulary is not here")
        checks += 1
    print("seed", seed)
    schemas = [generated(rng, 3) for _ in range(n_generated)]
    for tokenizer in tokenizers:
        judge(BY_HAND, draw(walk, BY_HAND, 12 if not tokenizer else 4, tokenizer), False)
        some = schemas if not tokenizer else schemas[:n_generated // 5]
        judge(some, draw(walk, some, 8, tokenizer), True)
    for line, text, message in draw(walk, [s for s, _ in REFUSED], 1):
        checks += 1
        if text is not None or REFUSED[line][1] not in message:
            fail(text, message, REFUSED[line])
    if empty > checks // 10:
        fail("too many generated schemas contradict themselves:", empty)
    print("CHECKS %d RUN %d FAILED" % (checks, failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

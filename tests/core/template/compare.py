#!/usr/bin/env python3
"""Holds the template engine against Jinja, set up as transformers sets it up.

    compare.py RENDER_CASES                   all cases of this folder
    compare.py RENDER_CASES --random N SEED   N templates made up from a seed
    compare.py --write                        writes expected.json anew

RENDER_CASES is the program render_cases; the cases are expressions.txt (one a line), templates.txt
(with --- between) and the templates of chats/ over its conversations.json. Where Jinja gives a text the engine must give the same;
where Jinja refuses, the engine must. Ends with 77, which is a skip, where there is no jinja2."""
import datetime
import json
import pathlib
import subprocess
import sys
import warnings

try:
    import jinja2
    import jinja2.ext
    import jinja2.sandbox
except ImportError:
    print("SKIPPED python3-jinja2 is not installed")
    sys.exit(77)

sys.dont_write_bytecode = True  # the source tree stays as it is
import random_expressions

warnings.simplefilter("ignore")  # Python's, of code that Jinja made

NOW = datetime.datetime(2026, 2, 3, 4, 5, 6)

HERE = pathlib.Path(__file__).parent
VARIABLES = json.loads((HERE / "variables.json").read_text(encoding="utf-8"))


class Generation(jinja2.ext.Extension):
    """{% generation %} is no more than its body."""

    tags = {"generation"}

    def parse(self, parser):
        next(parser.stream)
        return parser.parse_statements(["name:endgeneration"], drop_needle=True)


def refuse(message):
    raise jinja2.exceptions.TemplateError(message)


def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(
        x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def environment():
    env = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, "jinja2.ext.loopcontrols"]
    )
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = refuse
    env.globals["strftime_now"] = lambda form: NOW.strftime(form)
    return env


class Engine:
    """The program render_cases, asked line by line."""

    def __init__(self, program):
        self.process = subprocess.Popen(
            [program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
        )

    def render(self, template, variables):
        asked = json.dumps({"template": template, "variables": variables})
        self.process.stdin.write(asked + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"render_cases died of {template!r}")
        return json.loads(line)


def expected(env, template, variables):
    """The text, or None where Jinja refuses."""
    try:
        text = env.from_string(template).render(**variables)
        text.encode("utf-8")
        return text
    except Exception as why:  # whatever Python may raise there
        return why


def differs(engine, env, template, variables):
    want = expected(env, template, variables)
    got = engine.render(template, variables)
    if isinstance(want, Exception):
        if "error" in got:
            return None
        return f"{template!r}\n  want a refusal: {type(want).__name__}: {want}\n  got  {got['text']!r}"
    if got.get("error", "").endswith("has no slices"):
        return None  # of a constant, Jinja makes undefined of it beforehand; of a variable, an error
    if got.get("text") != want:
        return f"{template!r}\n  want {want!r}\n  got  {got.get('text', got.get('error'))!r}"
    return None


def small_cases(name):
    text = (HERE / name).read_text(encoding="utf-8")
    if name == "expressions.txt":
        return [("{{ " + line + " }}", VARIABLES) for line in text.splitlines() if line]
    return [(case, VARIABLES) for case in text.split("\n---\n")]


def chat_cases():
    folder = HERE / "chats"
    conversations = json.loads((folder / "conversations.json").read_text(encoding="utf-8"))
    for path in sorted(folder.glob("*.jinja")):
        for variables in conversations:
            yield path.read_text(encoding="utf-8"), variables


def made_up_cases(n, seed):
    made = random_expressions.Maker(seed)
    for _ in range(n):
        yield made.template(), VARIABLES


def write_expected(env, cases):
    """What test_template holds the engine against where there is no Jinja: null is a refusal."""
    texts = [expected(env, template, variables) for template, variables in cases]
    texts = [None if isinstance(text, Exception) else text for text in texts]
    lines = ",\n".join(json.dumps(text, ensure_ascii=False) for text in texts)
    (HERE / "expected.json").write_text("[\n" + lines + "\n]\n", encoding="utf-8")


def main():
    env = environment()
    cases = small_cases("expressions.txt") + small_cases("templates.txt") + list(chat_cases())
    if sys.argv[1] == "--write":
        write_expected(env, cases)
        return 0
    engine = Engine(sys.argv[1])
    if sys.argv[2:3] == ["--random"]:
        cases = made_up_cases(int(sys.argv[3]), int(sys.argv[4]))
    run = failed = 0
    for template, variables in cases:
        run += 1
        why = differs(engine, env, template, variables)
        if why:
            failed += 1
            print(why)
    print(f"CHECKS {run} RUN {failed} FAILED")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

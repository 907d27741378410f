"""What the tests of deploy/ share: counting checks as the other test programs do, and skipping."""

import os
import shutil
import subprocess
import sys

SOURCE = os.environ.get("MB_SOURCE") or os.path.join(os.path.dirname(__file__), "..", "..")
DEPLOY = os.path.join(SOURCE, "deploy")

run = 0
failed = 0


def path(*parts):
    return os.path.join(DEPLOY, *parts)


def text(*parts):
    with open(path(*parts), encoding="utf-8") as f:
        return f.read()


def check(ok, what):
    """One check; what says what is wrong when it is not ok."""
    global run, failed
    run += 1
    if not ok:
        failed += 1
        print("FAILED", what)
    return ok


def tool(name):
    """The program's path; None, and a line that says so, when it is not installed."""
    global run
    found = shutil.which(name)
    if not found:
        run += 1
        print(f"SKIPPED {name} is not installed")
    return found


def check_command(argv, what, **options):
    """A command that must end with 0; returns its standard output."""
    done = subprocess.run(argv, capture_output=True, text=True, **options)
    check(done.returncode == 0, f"{what}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout


def finish():
    print(f"CHECKS {run} RUN {failed} FAILED")
    sys.exit(1 if failed else 0)

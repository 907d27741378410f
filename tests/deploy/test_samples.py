#!/usr/bin/env python3
"""Goal:   what is in proxy, systemd and docker is what the programs that read it understand.
Method: each is asked to check its file, where it is installed; and the timeouts of the samples are held
        against mboold's own."""

import json
import os
import re
import subprocess
import sys
import tempfile

import checks
from checks import check

# What stands around a file of nginx's conf.d; the paths are for whoever is not root.
NGINX = """pid nginx.pid;
events {}
http {
    access_log off;
    client_body_temp_path a; proxy_temp_path b; fastcgi_temp_path c; uwsgi_temp_path d; scgi_temp_path e;
    include site.conf;
}
"""
# Of 10, as systemd counts; below 5 it says OK. A daemon that listens can not do without the network.
EXPOSURE = 2.0


def test_nginx():
    nginx = checks.tool("nginx")
    if nginx:
        with tempfile.TemporaryDirectory() as folder:
            for name, text in (("nginx.conf", NGINX), ("site.conf", checks.text("proxy", "nginx.conf"))):
                with open(os.path.join(folder, name), "w", encoding="utf-8") as f:
                    f.write(text.replace("listen 80;", f"listen unix:{folder}/socket;"))
            checks.check_command([nginx, "-p", folder, "-e", "stderr", "-t", "-c", "nginx.conf"], "nginx")


def test_others():
    haproxy = checks.tool("haproxy")
    if haproxy:
        checks.check_command([haproxy, "-c", "-f", checks.path("proxy", "haproxy.cfg")], "haproxy")
    caddy = checks.tool("caddy")
    if caddy:
        checks.check_command([caddy, "validate", "--config", checks.path("proxy", "Caddyfile"), "--adapter",
                              "caddyfile"], "caddy", env={**os.environ, "HOME": tempfile.gettempdir()})
    systemd = checks.tool("systemd-analyze")
    if systemd:
        checks.check_command([systemd, "security", "--offline=true", f"--threshold={EXPOSURE * 10:.0f}",
                              checks.path("systemd", "mboold.service")], "systemd")
    hadolint = checks.tool("hadolint")
    if hadolint:
        checks.check_command([hadolint, checks.path("docker", "Dockerfile")], "hadolint")


def number(pattern, text, what):
    found = re.search(pattern, text)
    return float(found.group(1)) if check(found, f"{what}: there is no {pattern}") else 0.0


def test_times(defaults):
    """A proxy is more patient than mboold, whose answers say what was wrong."""
    nginx, haproxy = checks.text("proxy", "nginx.conf"), checks.text("proxy", "haproxy.cfg")
    caddy, unit = checks.text("proxy", "Caddyfile"), checks.text("systemd", "mboold.service")
    ping = defaults["ping_interval"]
    check(number(r"proxy_read_timeout (\d+)s", nginx, "nginx") > 4 * ping, "nginx: streams are cut")
    check(number(r"timeout server +(\d+)s", haproxy, "haproxy") > 4 * ping, "haproxy: streams are cut")
    check(number(r"timeout client +(\d+)s", haproxy, "haproxy") > 4 * ping, "haproxy: streams are cut")
    check("proxy_buffering off;" in nginx and "flush_interval -1" in caddy, "a proxy gathers tokens")
    body = defaults["max_body"]
    check(f"client_max_body_size {body.lower()};" in nginx and f"max_size {body}iB" in caddy, "bodies differ")
    upload = int(defaults["file_bytes_max"].removesuffix("M")) + 1
    check(f"client_max_body_size {upload}m;" in nginx and f"max_size {upload}MiB" in caddy, "uploads differ")
    stop = number(r"TimeoutStopSec=(\d+)", unit, "systemd")
    check(stop > defaults["drain_timeout"] + 2, "systemd: a drain is cut")
    need = defaults["connections"] + 64 + 64
    check(number(r"LimitNOFILE=(\d+)", unit, "systemd") >= need, "systemd: too few descriptors")


def main():
    out = subprocess.run([sys.argv[1], "--print-defaults"], check=True, capture_output=True, text=True).stdout
    test_nginx()
    test_others()
    test_times(json.loads(out))
    checks.finish()


main()

#!/usr/bin/env python3
"""Goal:   the manifests say what they promise: restricted pods, a drain that fits into its grace,
        names that lead somewhere, options that mboold has.
Method: kubectl renders each overlay, helm the chart with each file of ci/ (each where it is
        installed); what comes out is checked for these properties, and against the types of the
        Kubernetes client where python3-kubernetes is installed. Without helm, values, schema and
        templates are held against each other."""

import copy
import json
import os
import re
import subprocess
import sys

import jsonschema
import yaml

import checks
from checks import check

MBOOLD = sys.argv[1]
CHART = checks.path("helm", "mboold")
CI = sorted(os.listdir(os.path.join(CHART, "ci")))
# CANCEL_GRACE_MS of server/daemon.c, in seconds.
CANCEL_GRACE = 2
NAME = "app.kubernetes.io/name"

try:
    from kubernetes import client
except ImportError:
    client = None


def options():
    """{key: default} of every option."""
    out = subprocess.run([MBOOLD, "--print-defaults"], check=True, capture_output=True, text=True)
    return json.loads(out.stdout)


def mboold_reads(config, what):
    """The file is good as far as a machine without its models can tell."""
    done = subprocess.run([MBOOLD, "--config", "/dev/stdin", "--check-config"], input=config,
                          capture_output=True, text=True)
    check(done.returncode == 1 and "/models/" in done.stderr, f"{what}: mboold says: {done.stderr}")


# ---- against the types of Kubernetes --------------------------------------------------------

# The newest API of a kind that the client knows; the fields are the same.
OLDER = {"V2HorizontalPodAutoscaler": "V2beta2HorizontalPodAutoscaler"}


def class_of(doc):
    group, _, version = doc["apiVersion"].rpartition("/")
    if "." in group and not group.endswith(".k8s.io"):
        return None  # of an operator's: its types are not the client's
    name = version[0].upper() + version[1:] + doc["kind"]
    return name if hasattr(client, name) else OLDER[name]


def fits(value, kind, where):
    """value is of the type that the client writes as kind; every field is one that it knows."""
    inside = re.fullmatch(r"(list|dict)(?:\[|\()(.*)(?:\]|\))", kind)
    if inside and inside.group(1) == "list":
        if check(isinstance(value, list), f"{where}: must be a list"):
            for i, x in enumerate(value):
                fits(x, inside.group(2), f"{where}[{i}]")
    elif inside:
        if check(isinstance(value, dict), f"{where}: must be a map"):
            for k, x in value.items():
                fits(x, inside.group(2).split(", ", 1)[1], f"{where}.{k}")
    elif kind in ("str", "bool", "int"):
        exact = {"str": str, "bool": bool, "int": int}[kind]
        # A quantity is written as a number or as text.
        quantity = kind == "str" and re.search(r"\.(limits|requests)\.\w+$", where)
        check(type(value) is exact or (quantity and type(value) is int), f"{where}: must be {kind}, not {value!r}")
    elif hasattr(client, kind) and hasattr(getattr(client, kind), "attribute_map"):
        if not check(isinstance(value, dict), f"{where}: must be an object"):
            return
        types = getattr(client, kind)
        field = {types.attribute_map[a]: (a, t) for a, t in types.openapi_types.items()}
        for k, x in value.items():
            if check(k in field, f"{where}: {kind} has no {k}"):
                fits(x, field[k][1], f"{where}.{k}")
        try:
            types(**{field[k][0]: x for k, x in value.items() if k in field})
        except (ValueError, TypeError) as e:
            check(False, f"{where}: {e}")


# ---- what every rendering must be -----------------------------------------------------------

def only(docs, kind):
    found = [d for d in docs if d["kind"] == kind]
    return found[0] if len(found) == 1 else check(False, f"{len(found)} documents of kind {kind}") or {}


def test_security(pod, where):
    c = pod["containers"][0]["securityContext"]
    check(pod["securityContext"]["runAsNonRoot"] is True, f"{where}: runAsNonRoot")
    check(pod["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault", f"{where}: seccomp")
    check(c["allowPrivilegeEscalation"] is False, f"{where}: allowPrivilegeEscalation")
    check(c["readOnlyRootFilesystem"] is True, f"{where}: readOnlyRootFilesystem")
    check(c["capabilities"] == {"drop": ["ALL"]}, f"{where}: capabilities")
    check(pod["automountServiceAccountToken"] is False, f"{where}: a token that nobody needs")
    check(pod["enableServiceLinks"] is False, f"{where}: enableServiceLinks")


def test_pod(pod, drain, where):
    c = pod["containers"][0]
    ports = {p["name"]: p["containerPort"] for p in c["ports"]}
    check(ports == {"http": 8080, "ops": 9090}, f"{where}: ports {ports}")
    for probe, path in (("startupProbe", "/healthz"), ("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")):
        check(c[probe]["httpGet"] == {"path": path, "port": "ops"}, f"{where}: {probe}")
    stop = int(c["lifecycle"]["preStop"]["exec"]["command"][1])
    check(pod["terminationGracePeriodSeconds"] > stop + drain + CANCEL_GRACE,
          f"{where}: {pod['terminationGracePeriodSeconds']} s do not hold preStop {stop} s and a drain of {drain} s")
    r = c["resources"]
    check(r["limits"] == r["requests"], f"{where}: limits and requests differ")
    check(float(r["limits"]["cpu"]).is_integer(), f"{where}: a part of a processor")
    mounts = {m["name"] for m in c["volumeMounts"]}
    check(mounts == {v["name"] for v in pod["volumes"]}, f"{where}: volumes and mounts differ")
    check(all(m["readOnly"] for m in c["volumeMounts"]), f"{where}: a volume that could be written")


def test_selectors(docs, labels, where):
    """Everything that selects pods selects these, and not every pod of the namespace."""
    for d in docs:
        spec = d.get("spec", {})
        selector = {"Service": spec.get("selector"), "NetworkPolicy": (spec.get("podSelector") or {}).get("matchLabels")}
        for kind in ("Deployment", "PodDisruptionBudget", "PodMonitor"):
            selector[kind] = (spec.get("selector") or {}).get("matchLabels") if d["kind"] == kind else None
        if d["kind"] in selector:
            chosen = selector[d["kind"]]
            check(chosen and chosen.items() <= labels.items(), f"{where}: {d['kind']} selects {chosen}")


def test_names(docs, pod, where):
    """Claims, configurations, accounts and targets are there, unless they are somebody else's."""
    have = {(d["kind"], d["metadata"]["name"]) for d in docs}
    check(("ServiceAccount", pod["serviceAccountName"]) in have, f"{where}: the account")
    for v in pod["volumes"]:
        if "configMap" in v:
            check(("ConfigMap", v["configMap"]["name"]) in have, f"{where}: the configuration")
    for e in pod["containers"][0].get("envFrom", []):
        check(("ConfigMap", e["configMapRef"]["name"]) in have, f"{where}: the environment")
    for d in docs:
        target = d.get("spec", {}).get("scaleTargetRef")
        check(not target or ("Deployment", target["name"]) in have, f"{where}: what is scaled")
        labels = d["metadata"].get("labels", {})
        check(labels.get(NAME) == "mboold", f"{where}: {d['kind']} has no label {NAME}")
        rule = d["spec"]["groups"] if d["kind"] == "PrometheusRule" else None
        check(rule is None or rule == yaml.safe_load(checks.text("prometheus", "rules.yaml"))["groups"],
              f"{where}: its rules are not those of deploy/prometheus")
        check(d["kind"] != "PodMonitor" or d["spec"]["jobLabel"] == NAME, f"{where}: job is not mboold")


def test_rendering(text, drain_of, where):
    docs = [d for d in yaml.safe_load_all(text) if d]
    if client:
        for d in docs:
            name = class_of(d)
            if name:
                fits(d, name, f"{where}: {d['kind']}")
    deployment = only(docs, "Deployment")
    template = deployment["spec"]["template"]
    test_security(template["spec"], where)
    test_pod(template["spec"], drain_of(docs), where)
    test_selectors(docs, template["metadata"]["labels"], where)
    test_names(docs, template["spec"], where)
    return docs


# ---- kustomize -------------------------------------------------------------------------------

def kustomize_drain(docs):
    """Its environment names options that there are; returns the time of a drain."""
    known = {"MBOOLD_" + k.upper() for k in options()}
    env = only(docs, "ConfigMap")["data"]
    check(set(env) <= known, f"kustomize: no options: {set(env) - known}")
    return float(env["MBOOLD_DRAIN_TIMEOUT"])


def test_kustomize():
    kubectl = checks.tool("kubectl")
    if not kubectl:
        return
    kinds = {}
    for overlay in ("base", "overlays/small", "overlays/production"):
        text = checks.check_command([kubectl, "kustomize", checks.path("kustomize", overlay)], overlay)
        docs = test_rendering(text, kustomize_drain, overlay)
        kinds[overlay] = {d["kind"] for d in docs}
        strategy = only(docs, "Deployment")["spec"]["strategy"]
        check(strategy["type"] == "RollingUpdate" or strategy == {"type": "Recreate"}, f"{overlay}: {strategy}")
    check({"PodDisruptionBudget", "HorizontalPodAutoscaler", "PodMonitor", "PrometheusRule", "NetworkPolicy"}
          <= kinds["overlays/production"], "production: something is missing")


# ---- helm ------------------------------------------------------------------------------------

def merged(base, over):
    out = copy.deepcopy(base)
    for k, v in over.items():
        out[k] = merged(out[k], v) if isinstance(v, dict) and isinstance(out.get(k), dict) else v
    return out


def valid(schema, values):
    return not list(jsonschema.Draft7Validator(schema).iter_errors(values))


BAD = ["replicas: -1", "replica: 2", "cpu: 1.5", "cpu: '4'", "memory: 8", "drain: 30s", "models: {'a b': x}",
       "models: {a: /x.mbool}", "models: {a: 'x,b=y'}", "options: {listen: '0.0.0.0:1'}", "options: {drain_timeout: 1}",
       "options: {max-sequences: 1}", "options: {keys: /x}", "keysSecret: 1", "insecure: 'no'", "ingress: {enabled: true}", "autoscaling: {kind: vpa}",
       "autoscaling: {kind: keda}", "volume: {accessModes: []}", "image: {digest: x}"]


def test_values():
    with open(os.path.join(CHART, "values.schema.json"), encoding="utf-8") as f:
        schema = json.load(f)
    with open(os.path.join(CHART, "values.yaml"), encoding="utf-8") as f:
        values = yaml.safe_load(f)
    jsonschema.Draft7Validator.check_schema(schema)
    check(valid(schema, values), "helm: the defaults do not fit the schema")
    for name in CI:
        with open(os.path.join(CHART, "ci", name), encoding="utf-8") as f:
            over = yaml.safe_load(f)
        check(valid(schema, merged(values, over)), f"helm: ci/{name} does not fit the schema")
        check(set(over.get("options", {})) <= set(options()), f"helm: ci/{name}: no such options")
    for bad in BAD:
        check(not valid(schema, merged(values, yaml.safe_load(bad))), f"helm: the schema lets pass {bad}")
    test_templates_use(values, schema)


def leaves(values, at=()):
    for k, v in values.items():
        if isinstance(v, dict) and v and not at and k in ("image", "volume", "service", "ingress", "autoscaling",
                                                          "networkPolicy", "monitoring"):
            yield from leaves(v, (k,))
        else:
            yield at + (k,)


def test_templates_use(values, schema):
    """A value that no template uses would be set in vain; one that is used must be there."""
    used = set()
    folder = os.path.join(CHART, "templates")
    for name in sorted(os.listdir(folder)):
        with open(os.path.join(folder, name), encoding="utf-8") as f:
            text = f.read()
        used |= {tuple(m.split(".")) for m in re.findall(r"\.Values\.([A-Za-z.]+)", text)}
        opened = len(re.findall(r"\{\{-? *(?:if|range|with|define)\b", text))
        check(opened == len(re.findall(r"\{\{-? *end\b", text)), f"helm: {name}: an end is missing")
    check(used == set(leaves(values)), f"helm: used and set differ: {used ^ set(leaves(values))}")
    known = set(schema["properties"]) - {"global"}
    check(known == set(values), f"helm: schema and values differ: {known ^ set(values)}")


def helm_drain(docs):
    config = [d for d in docs if d["kind"] == "ConfigMap" and "mboold.json" in d["data"]][0]["data"]["mboold.json"]
    mboold_reads(config, "helm")
    return json.loads(config)["drain_timeout"]


def test_helm():
    helm = checks.tool("helm")
    if helm:
        for name in CI:
            text = checks.check_command([helm, "template", "llm", CHART, "-f", os.path.join(CHART, "ci", name)], name)
            test_rendering(text, helm_drain, f"helm {name}")
        bare = subprocess.run([helm, "template", "llm", CHART], capture_output=True, text=True)
        check(bare.returncode != 0 and "models: at least one" in bare.stderr, "helm: a chart without models")


# ---- compose ---------------------------------------------------------------------------------

def test_compose():
    compose = yaml.safe_load(checks.text("docker", "compose.yaml"))
    mboold = compose["services"]["mboold"]
    known = {"MBOOLD_" + k.upper() for k in options()}
    dockerfile = checks.text("docker", "Dockerfile")
    given = set(mboold["environment"]) | set(re.findall(r"(MBOOLD_\w+)=", dockerfile))
    check(given <= known, f"compose: no options: {given - known}")
    check(mboold["read_only"] and mboold["cap_drop"] == ["ALL"], "compose: mboold may do too much")
    grace = int(mboold["stop_grace_period"].rstrip("s"))
    check(grace > float(options()["drain_timeout"]) + CANCEL_GRACE, f"compose: {grace} s are too few for a drain")
    for service in compose["services"].values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("../"):
                check(os.path.exists(checks.path("docker", source)), f"compose: there is no {source}")


def main():
    if not client:
        print("SKIPPED the types of Kubernetes: python3-kubernetes is not installed")
        checks.run += 1
    test_kustomize()
    test_values()
    test_helm()
    test_compose()
    checks.finish()


main()

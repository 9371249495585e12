"""What the demo does, step by step, with the commands that a person would use."""

import json
import shlex
import subprocess
import time
from pathlib import Path
from typing import Any

from demo import exactly_once, pods, rollout
from demo.clusters import BUILD, Target
from demo.steps import BOLD, RESET, indent, say, step
from demo.tools import Tools, apply, helm, kubectl
from devcluster.errors import ClusterError
from devcluster.wait import wait_until

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "breast-cancer"
RELEASE, SYSTEM = "onceserve", "onceserve-demo-system"
NAMESPACE, NAME = "onceserve-demo", "breast-cancer"
CLIENT = "client"
JOB_SECONDS = 120
BUILD_ANNOTATION = "onceserve.dev/build"


def show(target: Target) -> None:
    """Install, serve, ask, and tell what to try next."""
    target.start()
    values = target.provide_images()
    tools = target.tools()
    if elsewhere := installed_elsewhere(tools):
        say(f"▸ OnceServe is in namespace {elsewhere} already: the demo uses it")
    else:
        values |= target.provide_volume()
        with step("helm install onceserve"):
            install(tools, values)
    with step(f"kubectl apply -f {(EXAMPLE / 'modeldeployment.yaml').relative_to(ROOT)}, until it is Ready"):
        serve(tools, values.get(BUILD, ""))
    with step("what runs where"):
        look(tools)
    with step(f"the test set through the Service, http://{NAME}.{NAMESPACE}.svc"):
        ask(tools)
    if "store.enabled" in values:
        with step("exactly once: the model gets the store, in a new revision"):
            exactly_once.give_store(tools, SYSTEM, NAMESPACE, NAME)
        with step("one key, asked for again while the pod that answered is killed"):
            exactly_once.retry(tools, NAMESPACE, NAME)
    else:
        say("▸ exactly once is not shown: the demo installed no store, which takes a default StorageClass")
    with step("blue-green: another model takes over under load"):
        rollout.start_caller(tools, NAMESPACE, server_image(tools))
        rollout.take_over(tools, NAMESPACE, NAME)
    with step("a model that gets a known case wrong is refused"):
        rollout.refuse(tools, NAMESPACE, NAME)
    say(next_commands(tools))


def clean(target: Target) -> None:
    """Remove what `show` made."""
    with step("removing the demo"):
        if target.remove():
            return
        tools = target.tools()
        kubectl(tools, "delete", "namespace", NAMESPACE, "--ignore-not-found")
        if installed_elsewhere(tools):
            return
        helm(tools, "uninstall", RELEASE, "--namespace", SYSTEM, "--ignore-not-found", "--wait")
        kubectl(tools, "delete", "namespace", SYSTEM, "--ignore-not-found")
    say("  The definition stays, as after any `helm uninstall`: kubectl delete crd modeldeployments.onceserve.dev")


def installed_elsewhere(tools: Tools) -> str | None:
    """Return the namespace of an installation that is not the demo's: it is used, and never touched."""
    releases = json.loads(helm(tools, "list", "--all-namespaces", "--output", "json"))
    ours = (each for each in releases if each["chart"].startswith("onceserve-"))
    return next((each["namespace"] for each in ours if each["namespace"] != SYSTEM), None)


def install(tools: Tools, values: dict[str, str]) -> None:
    """Install or upgrade the operator."""
    flags = [flag for name, value in values.items() for flag in ("--set", f"{name}={value}")]
    chart = str(ROOT / "charts" / "onceserve")
    where = ["--namespace", SYSTEM, "--create-namespace", "--wait", "--timeout=3m"]
    indent(helm(tools, "upgrade", "--install", RELEASE, chart, *where, *flags).split("\n\n")[0])


def serve(tools: Tools, build: str) -> None:
    """Apply the example and wait until it serves."""
    have_namespace(tools, build)
    apply_files(tools, NAME, EXAMPLE / "model.onnx", EXAMPLE / "model-v2.onnx")
    indent(kubectl(tools, "apply", "-n", NAMESPACE, "-f", str(EXAMPLE / "modeldeployment.yaml")))
    start = time.monotonic()
    kubectl(tools, "wait", "-n", NAMESPACE, f"mdep/{NAME}", "--for=condition=Ready", "--timeout=3m")
    kubectl(tools, "wait", "-n", NAMESPACE, f"mdep/{NAME}", "--for=condition=Reconciling=False", "--timeout=3m")
    say(f"  from apply to Ready with all replicas: {time.monotonic() - start:.1f} s")


def have_namespace(tools: Tools, build: str) -> None:
    """Have the namespace; what an older build serves in it is deleted, since its pods keep their image."""
    known = kubectl(tools, "get", "namespace", NAMESPACE, "--ignore-not-found", "-o", "json")
    if known and json.loads(known)["metadata"].get("annotations", {}).get(BUILD_ANNOTATION) != build:
        kubectl(tools, "delete", "mdep", NAME, "-n", NAMESPACE, "--ignore-not-found", "--cascade=foreground")
    metadata = {"name": NAMESPACE, "annotations": {BUILD_ANNOTATION: build}}
    apply(tools, {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})


def look(tools: Tools) -> None:
    """Show the resource, its pods and their nodes."""
    indent(kubectl(tools, "get", "mdep", "-n", NAMESPACE))
    say("")
    columns = "POD:.metadata.name,STATUS:.status.phase,NODE:.spec.nodeName,IP:.status.podIP"
    selector = f"onceserve.dev/modeldeployment={NAME}"
    indent(kubectl(tools, "get", "pods", "-n", NAMESPACE, "-l", selector, "-o", f"custom-columns={columns}"))


def ask(tools: Tools) -> None:
    """Run the example's client as a pod of the cluster, which reaches the model as any application would."""
    apply_files(tools, CLIENT, EXAMPLE / "client.py", EXAMPLE / "test-set.json")
    kubectl(tools, "delete", "job", CLIENT, "-n", NAMESPACE, "--ignore-not-found", "--wait")
    apply(tools, client_job(server_image(tools)))
    outcome = wait_for_job(tools)
    indent(kubectl(tools, "logs", "-n", NAMESPACE, f"job/{CLIENT}"))
    if outcome != "Complete":
        raise subprocess.CalledProcessError(1, ["client"], stderr="the client failed; its words are above")


def server_image(tools: Tools) -> str:
    """Return the server's image, which carries a Python for the client too."""
    path = "{.items[0].spec.containers[0].image}"
    return kubectl(
        tools, "get", "pods", "-n", NAMESPACE, "-l", f"onceserve.dev/modeldeployment={NAME}", "-o", f"jsonpath={path}"
    )


def client_job(image: str) -> dict[str, Any]:
    """Return the Job that asks."""
    command = ["/opt/onceserve/bin/python", "/client/client.py", f"http://{NAME}.{NAMESPACE}.svc"]
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": CLIENT, "namespace": NAMESPACE},
        "spec": {
            "backoffLimit": 0,
            "activeDeadlineSeconds": JOB_SECONDS,
            "template": {"spec": pods.spec(CLIENT, image, command, files=CLIENT)},
        },
    }


def wait_for_job(tools: Tools) -> str:
    """Return how the Job ended: Complete or Failed."""
    if not wait_until(lambda: bool(job_end(tools)), JOB_SECONDS + 30):
        raise ClusterError(f"the client did not end: kubectl -n {NAMESPACE} describe job {CLIENT} may say why")
    return job_end(tools)


def job_end(tools: Tools) -> str:
    """Return how the Job ended, empty while it runs."""
    job = json.loads(kubectl(tools, "get", "job", CLIENT, "-n", NAMESPACE, "-o", "json"))
    ends = (each["type"] for each in job.get("status", {}).get("conditions", []) if each["status"] == "True")
    return next((end for end in ends if end in {"Complete", "Failed"}), "")


def apply_files(tools: Tools, name: str, *files: Path) -> None:
    """Have a ConfigMap of these files."""
    sources = [f"--from-file={file}" for file in files]
    manifest = kubectl(tools, "create", "configmap", name, "-n", NAMESPACE, *sources, "--dry-run=client", "-o", "json")
    apply(tools, json.loads(manifest))


def next_commands(tools: Tools) -> str:
    """Return what to try next, ready to be pasted."""
    exports = "".join(f'  export {name}="{value}"\n' for name, value in tools.environment.items())
    kubectl_words = "kubectl" if tools.environment else shlex.join(tools.kubectl)
    k = f"  {kubectl_words} -n {NAMESPACE}"
    return f"""
{BOLD}Now try{RESET}
{exports}
{k} get mdep,pods -o wide
{k} describe mdep {NAME}
{k} scale mdep/{NAME} --replicas=5
{k} delete pod -l onceserve.dev/modeldeployment={NAME} --wait=false   # they come back
{k} port-forward svc/{NAME} 8080:80 &                 # then open http://localhost:8080
  python3 examples/breast-cancer/client.py http://localhost:8080
{k} patch mdep {NAME} --type=merge -p '{{"spec":{{"model":{{"sha256":"{"0" * 64}"}}}}}}'
{k} get mdep {NAME} -o wide                        # the bad model is refused; the old one goes on serving

  make demo-down                                      # removes everything
"""

"""A RayJob or RayCluster for KubeRay, with what stands beside it in the file."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from search.clusters.findings import Finding, check_image
from search.clusters.ray_commands import check_start_options
from spaces.errors import nearest

KINDS = ("RayJob", "RayCluster")
# Field names of KubeRay 1.7's API reference, the ray.io/v1 types of these names.
_JOB = [
    "activeDeadlineSeconds",
    "backoffLimit",
    "rayClusterSpec",
    "submitterPodTemplate",
    "metadata",
    "clusterSelector",
    "submitterConfig",
    "managedBy",
    "deletionStrategy",
    "entrypoint",
    "runtimeEnvYAML",
    "jobId",
    "submissionMode",
    "entrypointResources",
    "entrypointNumCpus",
    "entrypointNumGpus",
    "ttlSecondsAfterFinished",
    "preRunningDeadlineSeconds",
    "shutdownAfterJobFinishes",
    "suspend",
]
_CLUSTER = [
    "upgradeStrategy",
    "authOptions",
    "suspend",
    "managedBy",
    "autoscalerOptions",
    "headServiceAnnotations",
    "enableInTreeAutoscaling",
    "gcsFaultToleranceOptions",
    "historyServerOptions",
    "networkPolicy",
    "tlsOptions",
    "headGroupSpec",
    "rayVersion",
    "workerGroupSpecs",
]
_HEAD = [
    "template",
    "headService",
    "enableIngress",
    "ingressOptions",
    "resources",
    "labels",
    "rayStartParams",
    "serviceType",
]
_WORKERS = [
    "groupName",
    "replicas",
    "minReplicas",
    "maxReplicas",
    "idleTimeoutSeconds",
    "rayStartParams",
    "template",
    "scaleStrategy",
    "numOfHosts",
    "suspend",
    "resources",
    "labels",
]
_OPEN_SERVICES = ("NodePort", "LoadBalancer")
_SECRET_NAME = re.compile(r"TOKEN$|PASSWORD|SECRET|_KEY$")


def check_kuberay(documents: Sequence[Any]) -> Iterator[Finding]:
    """Yield what is misspelt, open, moving or secret in the documents of one file."""
    resources = [document for document in documents if isinstance(document, Mapping)]
    for resource in resources:
        kind = str(resource.get("kind"))
        if kind == "Secret" and (resource.get("data") or resource.get("stringData")):
            problem = "a Secret holds its values in the file"
            yield Finding(kind, problem, "Create it with kubectl create secret")
        if kind in {"Service", "Ingress"} and _is_open(resource):
            problem = "it opens Ray to networks outside the cluster"
            yield Finding(kind, problem, "Use kubectl port-forward")
        if kind in KINDS:
            yield from _check_ray(kind, resource, resources)


def _is_open(resource: Mapping[str, Any]) -> bool:
    return (
        resource.get("kind") == "Ingress"
        or _at(resource, "spec").get("type", "ClusterIP") in _OPEN_SERVICES
    )


def _check_ray(
    kind: str, resource: Mapping[str, Any], beside: Sequence[Mapping[str, Any]]
) -> Iterator[Finding]:
    if resource.get("apiVersion") != "ray.io/v1":
        problem = f"apiVersion must be ray.io/v1, got {resource.get('apiVersion')}"
        yield Finding(kind, problem, "Correct it")
    spec, where = _at(resource, "spec"), "spec"
    if kind == "RayJob":
        yield from _check_keys(where, spec, _JOB)
        if not spec.get("shutdownAfterJobFinishes"):
            problem = "shutdownAfterJobFinishes must be true, or the cluster goes on costing money"
            yield Finding(where, problem, "Set it")
        spec, where = _at(spec, "rayClusterSpec"), "spec.rayClusterSpec"
    yield from _check_keys(where, spec, _CLUSTER)
    if _at(spec, "authOptions").get("mode") != "token":
        problem = "authOptions.mode must be token"
        yield Finding(where, problem, "Without it whoever reaches the port runs code")
    head = _at(spec, "headGroupSpec")
    yield from _check_keys(f"{where}.headGroupSpec", head, _HEAD)
    if head.get("enableIngress") or head.get("serviceType", "ClusterIP") in _OPEN_SERVICES:
        problem = "the dashboard would be open to networks outside the cluster"
        yield Finding(f"{where}.headGroupSpec", problem, "Use kubectl port-forward")
    groups = [(f"{where}.headGroupSpec", head)]
    for at, group in enumerate(spec.get("workerGroupSpecs") or ()):
        groups.append((f"{where}.workerGroupSpecs.{at}", group))
        yield from _check_keys(groups[-1][0], group, _WORKERS)
    for place, group in groups:
        yield from _check_group(place, group, beside)


def _check_keys(where: str, found: Mapping[str, Any], known: Sequence[str]) -> Iterator[Finding]:
    for key in found:
        if key not in known:
            yield Finding(f"{where}.{key}", "KubeRay knows no such key", nearest(str(key), known))


def _check_group(
    where: str, group: Mapping[str, Any], beside: Sequence[Mapping[str, Any]]
) -> Iterator[Finding]:
    options = [f"--{name}={value}" for name, value in _at(group, "rayStartParams").items()]
    # A pod's own network ends at the policy below; the operator must reach the dashboard in it.
    within = [option for option in options if not option.startswith("--dashboard-host=")]
    yield from check_start_options(f"{where}.rayStartParams", within)
    template = _at(group, "template")
    pod, labels = _at(template, "spec"), _at(template, "metadata", "labels")
    if not _guarded(labels, beside):
        problem = "no NetworkPolicy in this file limits who reaches these pods"
        yield Finding(where, problem, "Any pod of the cluster could reach them: add one")
    for key in ("hostNetwork", "hostPID"):
        if pod.get(key):
            problem = f"{key} puts the pod on the host's own network or processes"
            yield Finding(where, problem, "Remove it")
    for container in [*(pod.get("initContainers") or ()), *(pod.get("containers") or ())]:
        yield from _check_container(f"{where} container {container.get('name')}", container)


def _check_container(where: str, container: Mapping[str, Any]) -> Iterator[Finding]:
    yield from check_image(where, container.get("image", "none"))
    security = _at(container, "securityContext")
    if security.get("privileged") or security.get("allowPrivilegeEscalation") is not False:
        problem = "securityContext.allowPrivilegeEscalation must be false"
        yield Finding(where, problem, "Set it, and privileged nowhere")
    for variable in container.get("env") or ():
        name = str(variable.get("name"))
        if _SECRET_NAME.search(name) and variable.get("value"):
            problem = f"{name} has its value in the file"
            yield Finding(where, problem, "Take it from a Secret: valueFrom.secretKeyRef")


def _guarded(labels: Mapping[str, Any], beside: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether NetworkPolicies limit who may reach pods with these labels.

    What one policy admits, another cannot forbid.
    """
    policies = [policy for policy in beside if _selects(policy, labels)]
    rules = [rule for policy in policies for rule in _at(policy, "spec").get("ingress") or ()]
    return bool(policies) and all(_is_narrow(peer) for rule in rules for peer in _peers(rule))


def _selects(policy: Mapping[str, Any], labels: Mapping[str, Any]) -> bool:
    if policy.get("kind") != "NetworkPolicy":
        return False
    selector = _at(policy, "spec", "podSelector")
    limits = "Ingress" in (_at(policy, "spec").get("policyTypes") or ("Ingress",))
    by_labels = _at(selector, "matchLabels").items() <= labels.items()
    return limits and by_labels and not selector.get("matchExpressions")


def _peers(rule: Any) -> Sequence[Any]:
    """Return whom a rule admits; one that names nobody admits everybody."""
    return (rule or {}).get("from") or [{}]


def _is_narrow(peer: Any) -> bool:
    """Return whether it names some pods, namespaces or addresses; an empty selector means all."""
    names = ("podSelector", "namespaceSelector", "ipBlock")
    return isinstance(peer, Mapping) and any(peer.get(name) for name in names)


def _at(content: Mapping[str, Any], *keys: str) -> Mapping[str, Any]:
    """Return a nested mapping; an empty one where there is none."""
    for key in keys:
        below = content.get(key)
        content = below if isinstance(below, Mapping) else {}
    return content

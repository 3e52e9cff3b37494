"""`kuberay.yaml` holds what KubeRay, Kubernetes and we want; each rule catches what it is for.

There is no CRD's schema to check against without a network: the rules name what they rest on.
"""

from collections.abc import Iterator
from typing import Any

import pytest
import ray
import yaml

from tests.cluster.preset_checks import CLUSTER, MARK, ROOT, secrets_in

Manifest = dict[str, Any]
GPU = "nvidia.com/gpu"


def text() -> str:
    return (CLUSTER / "kuberay.yaml").read_text(encoding="utf-8")


def complaints(manifest: str) -> list[str]:
    """Returns what is wrong with the manifest."""
    documents = {document["kind"]: document for document in yaml.safe_load_all(manifest)}
    claim, cluster, policy = (documents[kind] for kind in ("PersistentVolumeClaim", "RayCluster", "NetworkPolicy"))
    return [
        *of_cluster(cluster["spec"]),
        *of_pods(cluster["spec"], claim),
        *of_doors(cluster, policy),
        *marks(manifest),
    ]


def of_cluster(spec: Manifest) -> Iterator[str]:
    """The token, the autoscaler, and groups that grow from none."""
    if spec["authOptions"] != {"mode": "token", "secretName": "segsweep-token"}:
        yield "Ray runs without the token"
    if not spec["enableInTreeAutoscaling"] or not 60 <= spec["autoscalerOptions"]["idleTimeoutSeconds"] <= 3600:
        yield "idle pods stay"
    if (
        spec["rayVersion"] != ray.__version__
        or f"ray=={ray.__version__}" not in (ROOT / "requirements.lock").read_text()
    ):
        yield "another Ray than the image's"
    if spec["headGroupSpec"]["rayStartParams"].get("num-cpus") != "0":
        yield "trials may run on the head"
    groups = spec["workerGroupSpecs"]
    if len({group["groupName"] for group in groups}) != len(groups):
        yield "two groups of one name"
    for group in groups:
        if group["replicas"] or group["minReplicas"] or group["maxReplicas"] < 1:
            yield f"{group['groupName']}: does not grow from none"
    if sum(bool(gpus(group)) for group in groups) < 2:
        yield "fewer than two kinds of GPU pods"


def container(group: Manifest) -> Manifest:
    found: Manifest = group["template"]["spec"]["containers"][0]
    return found


def gpus(group: Manifest) -> int:
    return int(container(group)["resources"]["limits"].get(GPU, 0))


def of_pods(spec: Manifest, claim: Manifest) -> Iterator[str]:
    """Each pod: the shared folder, no root, resources that are kept free for it, GPUs where they are."""
    if claim["spec"]["accessModes"] != ["ReadWriteMany"]:
        yield "only one node could mount the claim"
    for group in [spec["headGroupSpec"], *spec["workerGroupSpecs"]]:
        name, pod = group.get("groupName", "head"), group["template"]["spec"]
        claims = {volume["name"]: volume.get("persistentVolumeClaim", {}).get("claimName") for volume in pod["volumes"]}
        mounts = {mount["mountPath"]: claims.get(mount["name"]) for mount in container(group)["volumeMounts"]}
        if mounts.get("/shared") != claim["metadata"]["name"]:
            yield f"{name}: lacks /shared"
        if not pod["securityContext"].get("runAsNonRoot") or pod["securityContext"].get("runAsUser") != 1000:
            yield f"{name}: not the image's user"
        if container(group)["resources"]["requests"] != container(group)["resources"]["limits"]:
            yield f"{name}: Ray would count on more than is kept free"
        if pod["restartPolicy"] != "Never":
            yield f"{name}: a pod that restarts is another Ray node"
        if name != "head" and pod["automountServiceAccountToken"]:
            yield f"{name}: could ask Kubernetes for things"
        tolerated = [toleration["key"] for toleration in pod.get("tolerations", [])]
        if bool(gpus(group)) != (GPU in tolerated and bool(pod.get("nodeSelector"))):
            yield f"{name}: not on nodes with its GPUs"


def of_doors(cluster: Manifest, policy: Manifest) -> Iterator[str]:
    """Only pods of the cluster and the operator connect."""
    head = cluster["spec"]["headGroupSpec"]
    if head["serviceType"] != "ClusterIP" or head["rayStartParams"].get("dashboard-host") != "127.0.0.1":
        yield "the dashboard is open"
    chosen = {"matchLabels": {"ray.io/cluster": cluster["metadata"]["name"]}}
    if policy["spec"]["podSelector"] != chosen or "Ingress" not in policy["spec"]["policyTypes"]:
        yield "the policy is another cluster's"
    peers = [peer for rule in policy["spec"]["ingress"] for peer in rule.get("from", [{}])]
    operator = {"matchLabels": {"app.kubernetes.io/name": "kuberay-operator"}}
    if [peer.get("podSelector") for peer in peers] != [chosen, operator]:
        yield "others may connect"


def marks(manifest: str) -> Iterator[str]:
    """Lines to edit are marked and used; nothing looks like a secret."""
    annotations = next(
        document["metadata"]["annotations"]
        for document in yaml.safe_load_all(manifest)
        if document["kind"] == "RayCluster"
    )
    lines = manifest.splitlines()
    for name in [*annotations, "storageClassName", "resources: {requests: {storage"]:
        if not any(line.strip().startswith(f"{name}:") and MARK in line for line in lines[:30]):
            yield f"{name} is not marked among the first lines"
    if manifest.count(MARK) != len(annotations) + 2:
        yield "marks and lines to edit differ"
    yield from secrets_in(manifest)


def test_manifest_keeps_the_rules() -> None:
    assert complaints(text()) == []


@pytest.mark.parametrize(
    ("ours", "broken", "complaint"),
    [
        ("mode: token", "mode: disabled", "Ray runs without the token"),
        ("secretName: segsweep-token", "secretName: other", "Ray runs without the token"),
        ("idleTimeoutSeconds: 600", "idleTimeoutSeconds: 86400", "idle pods stay"),
        ("enableInTreeAutoscaling: true", "enableInTreeAutoscaling: false", "idle pods stay"),
        (f"rayVersion: {ray.__version__}", "rayVersion: 2.41.0", "another Ray than the image's"),
        ('num-cpus: "0"', 'num-cpus: "3"', "trials may run on the head"),
        ("- groupName: large-gpu", "- groupName: small-gpu", "two groups of one name"),
        ("maxReplicas: 8", "maxReplicas: 0", "small-gpu: does not grow"),
        ('memory: 150Gi, nvidia.com/gpu: "2"}', "memory: 150Gi}", "fewer than two kinds of GPU pods"),
        ("[ReadWriteMany]", "[ReadWriteOnce]", "only one node could mount"),
        ("mountPath: /shared", "mountPath: /mnt", "cpu: lacks /shared"),
        ("claimName: segsweep-shared", "claimName: other", "head: lacks /shared"),
        ("runAsUser: 1000", "runAsUser: 0", "small-gpu: not the image's user"),
        ("limits: *small", 'limits: {cpu: "8", nvidia.com/gpu: "1"}', "small-gpu: Ray would count on more"),
        ("restartPolicy: Never", "restartPolicy: Always", "cpu: a pod that restarts"),
        ("automountServiceAccountToken: false", "automountServiceAccountToken: true", "cpu: could ask Kubernetes"),
        ("          nodeSelector: {nvidia.com/gpu.product: *small_gpu}", "", "small-gpu: not on nodes"),
        ("serviceType: ClusterIP", "serviceType: LoadBalancer", "the dashboard is open"),
        ("dashboard-host: 127.0.0.1", "dashboard-host: 0.0.0.0", "the dashboard is open"),
        ("  podSelector: {matchLabels: {ray.io/cluster: segsweep}}", "  podSelector: {}", "the policy is another"),
        (
            "        - namespaceSelector: {}\n",
            "        - ipBlock: {cidr: 0.0.0.0/0}\n        - namespaceSelector: {}\n",
            "others may connect",
        ),
        ("segsweep:0.1.0  # edit: where", "segsweep:0.1.0  # where", "segsweep/image is not marked"),
        ("  rayVersion:", "  note: 0123456789abcdef0123456789abcdef\n  rayVersion:", "looks like a secret"),
    ],
)
def test_each_rule_catches_what_it_is_for(ours: str, broken: str, complaint: str) -> None:
    assert ours in text()
    found = complaints(text().replace(ours, broken))
    assert any(complaint in line for line in found), found

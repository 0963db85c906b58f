"""The examples in cluster/manifests hold what can be checked without the systems that they are for."""

from __future__ import annotations

import os
import re
import stat
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from muster.cluster import jobs

MANIFESTS = Path(jobs.__file__).parent / "manifests"


def closed(**properties: Any) -> dict[str, Any]:
    """An object with these properties and no others, so that a typing error does not pass."""
    return {"type": "object", "properties": properties, "additionalProperties": False}


TEXT = {"type": "string"}
COUNT = {"type": "integer", "minimum": 0}
AMOUNTS = {"type": "object", "additionalProperties": TEXT, "required": ["cpu", "memory"]}
CONTAINER = closed(
    name=TEXT,
    image=TEXT,
    env={"type": "array", "items": closed(name=TEXT, value=TEXT)},
    ports={"type": "array", "items": closed(containerPort=COUNT, name=TEXT)},
    resources=closed(requests=AMOUNTS, limits=AMOUNTS),
    volumeMounts={"type": "array", "items": closed(name=TEXT, mountPath=TEXT, readOnly={"type": "boolean"})},
)
POD = closed(
    spec=closed(
        containers={"type": "array", "items": CONTAINER, "minItems": 1},
        terminationGracePeriodSeconds=COUNT,
        volumes={
            "type": "array",
            "items": closed(name=TEXT, persistentVolumeClaim=closed(claimName=TEXT)),
        },
    )
)
START = {"type": "object", "additionalProperties": TEXT}  # KubeRay takes strings only
RAY_CLUSTER = closed(
    apiVersion={"const": "ray.io/v1"},
    kind={"const": "RayCluster"},
    metadata=closed(name=TEXT),
    spec=closed(
        rayVersion=TEXT,
        authOptions=closed(mode={"enum": ["token", "disabled"]}),
        headGroupSpec={**closed(rayStartParams=START, template=POD), "required": ["template"]},
        workerGroupSpecs={
            "type": "array",
            "items": {
                **closed(
                    groupName=TEXT,
                    replicas=COUNT,
                    minReplicas=COUNT,
                    maxReplicas=COUNT,
                    rayStartParams=START,
                    template=POD,
                ),
                "required": ["groupName", "minReplicas", "maxReplicas", "template"],
            },
        },
    ),
)


def load(name: str) -> dict[str, Any]:
    return yaml.safe_load((MANIFESTS / name).read_text())


def test_the_raycluster_has_the_shape_that_kuberay_takes() -> None:
    manifest = load("kuberay-raycluster.yaml")
    jsonschema.validate(manifest, RAY_CLUSTER)
    assert manifest["spec"]["authOptions"]["mode"] == "token"
    for group in [manifest["spec"]["headGroupSpec"], *manifest["spec"]["workerGroupSpecs"]]:
        pod = group["template"]["spec"]
        mounted = {mount["name"] for container in pod["containers"] for mount in container["volumeMounts"]}
        assert mounted == {volume["name"] for volume in pod["volumes"]}


def test_the_schema_would_catch_a_typing_error() -> None:
    manifest = load("kuberay-raycluster.yaml")
    manifest["spec"]["authOptions"]["mode"] = "tokn"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(manifest, RAY_CLUSTER)


def test_rays_own_launcher_takes_the_ssh_cluster() -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    prepared = prepare_config(load("ray-up.yaml"))
    validate_config(prepared)
    starts = prepared["head_start_ray_commands"] + prepared["worker_start_ray_commands"]
    assert all("RAY_AUTH_MODE=token" in line for line in starts if "ray start" in line)


def test_every_manifest_names_the_ray_that_is_installed() -> None:
    import ray

    for name in ("kuberay-raycluster.yaml", "ray-up.yaml"):
        named = re.findall(r"(?:rayVersion: \"|==|ray:)(2\.\d+\.\d+)", (MANIFESTS / name).read_text())
        assert set(named) == {ray.__version__}, name


def test_the_slurm_script_parses() -> None:
    subprocess.run(["bash", "-n", MANIFESTS / "slurm.sh"], check=True)


@pytest.mark.parametrize("nodes", [1, 3])
def test_the_slurm_script_starts_a_guarded_cluster_and_ends_with_the_launch(
    tmp_path: Path, nodes: int
) -> None:
    fakes = tmp_path / "bin"
    fakes.mkdir()
    for name, body in FAKES.items():
        (fakes / name).write_text(f"#!/bin/bash\n{body}")
        (fakes / name).chmod(0o755)
    job = f"{os.getpid()}{nodes}"
    outcome = subprocess.run(
        ["bash", MANIFESTS / "slurm.sh", "dreml", "--name", "a b"],
        env={
            "PATH": f"{fakes}:{os.environ['PATH']}",
            "HOME": str(tmp_path),
            "HEAD_IP": "127.0.0.1",
            "SLURM_JOB_ID": job,
            "SLURM_JOB_NODELIST": "node[1-3]",
            "SLURM_JOB_NUM_NODES": str(nodes),
            "CALLS": str(tmp_path / "calls"),
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    calls = (tmp_path / "calls").read_text().splitlines()
    assert outcome.returncode == 7, outcome.stderr
    assert [line for line in calls if line.startswith("muster")] == [
        f"muster <launch> <dreml> <--name> <a b> <--address> <http://127.0.0.1:{25000 + int(job) % 5000}> token 600"
    ]
    starts = [line for line in calls if line.startswith("ray")]
    assert len(starts) == (1 if nodes == 1 else 2)
    assert "<--head>" in starts[0]
    assert all("<--block>" in line and "token 600" in line for line in starts)
    assert list(tmp_path.glob(".muster-token-*")) == []


@pytest.fixture(autouse=True)
def no_private_folder() -> Any:
    """The fakes make their folder below /tmp, as the script says; it goes with the test."""
    yield
    for left in Path("/tmp").glob(f"muster-slurm-{os.getpid()}*"):
        assert stat.S_IMODE(left.stat().st_mode) == 0o700
        left.rmdir()


_TELL = (
    'said=; for a in "$@"; do said+=" <$a>"; done\n'
    'echo "$(basename "$0")$said $RAY_AUTH_MODE $(stat -c %a "$RAY_AUTH_TOKEN_PATH")" >> "$CALLS"\n'
)
FAKES = {
    "scontrol": "printf 'node1\\nnode2\\nnode3\\n'\n",
    # Runs once what srun would run on each node, and in a folder that the first one has not made yet.
    "srun": 'while [[ $1 == --* ]]; do shift; done\nrmdir /tmp/muster-slurm-"$SLURM_JOB_ID" 2>/dev/null\nexec "$@"\n',
    # A head that answers as the dashboard would, or a worker that just stays.
    "ray": _TELL
    + """
for a in "$@"; do [[ $a == --dashboard-port=* ]] && port=${a#*=}; done
[[ -n ${port:-} ]] || exec sleep 600
mkdir -p "$HOME/site/api" && touch "$HOME/site/api/authentication_mode"
exec python3 -m http.server --bind 127.0.0.1 --directory "$HOME/site" "$port" 2> /dev/null
""",
    "muster": "sleep 0.5\n" + _TELL + "exit 7\n",
}

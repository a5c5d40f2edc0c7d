"""What retrain.sh meets in a test: a `kubectl` on PATH that answers from files and notes what it was asked."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import yaml

BASE = Path(__file__).resolve().parents[2] / "infra/kubernetes/base"
JOB_NAME, JOB_UID = "retrain-29385780", "1f2e3d4c-5b6a-4798-8f0e-d1c2b3a49586"
RUN = "retrain-29385780-1f2e3d4c"

# Answers: `list` (file), `create` (file with its error, absent if it works), `polls` (one line a poll, last one stays).
# With `exits` (one exit code an attempt) what is created is run, by `ray` on PATH, and the answers follow from that.
KUBECTL = r"""#!/bin/sh
cd "$FAKE"
printf "%s\n" "$*" >> calls
case "$*" in
*"get rayjobs "*)
    [ -f list ] || { echo "Unable to connect to the server" >&2; exit 1; }
    cat list ;;
*" create --filename -")
    cat > created.yaml
    [ ! -f create ] || { cat create >&2; exit 1; }
    [ ! -f exits ] || ray job submit
    echo "rayjob.ray.io created" ;;
*"get rayjob "*)
    line=$(head -n 1 polls)
    [ "$(wc -l < polls)" -le 1 ] || sed -i 1d polls
    [ "$line" != unreachable ] || { echo "Unable to connect to the server" >&2; exit 1; }
    [ "$line" = deleted ] || printf "%s,%b" "$(echo "$*" | sed "s/.*get rayjob \([^ ]*\) .*/\1/")" "$line" ;;
"kustomize "*) exec "$KUBECTL" "$@" ;; # needs no cluster: the real one
*) echo "unexpected: $*" >&2; exit 64 ;;
esac
"""


@dataclass
class Answer:
    exit_code: int
    output: str
    created: dict | None
    calls: list[str]


def install(folder: Path, name: str, script: str) -> None:
    """Put an executable into the folder that comes first on PATH."""
    (folder / "bin").mkdir(exist_ok=True)
    path = folder / "bin" / name
    path.write_text(script)
    path.chmod(0o755)


def environment(folder: Path, **changes: str) -> dict[str, str]:
    """What retrain-cronjob.yaml gives the script, with nothing to wait for."""
    return {
        "PATH": f"{folder}/bin:{os.environ['PATH']}",
        "FAKE": str(folder),
        "KUBECTL": shutil.which("kubectl") or "kubectl",
        "NAMESPACE": "somewhere",
        "JOB_NAME": JOB_NAME,
        "JOB_UID": JOB_UID,
        "POLL_S": "0",
        "CLUSTER_GONE_S": "0",
        **changes,
    }


def command(mounted: Path = BASE) -> list[str]:
    """What the pod runs, with the ConfigMap's files in a folder."""
    return ["sh", str(mounted / "retrain.sh"), str(mounted / "rayjob.yaml")]


COMMAND = command()


def retrain(folder: Path, mounted: Path = BASE, **changes: str) -> Answer:
    """One pod of the CronJob's Job."""
    (folder / "created.yaml").unlink(missing_ok=True)
    ran = subprocess.run(
        command(mounted), env=environment(folder, **changes), capture_output=True, text=True, timeout=20
    )
    created = folder / "created.yaml"
    return Answer(
        ran.returncode,
        ran.stdout + ran.stderr,
        yaml.safe_load(created.read_text()) if created.exists() else None,
        (folder / "calls").read_text().splitlines(),
    )

#!/bin/sh
# One attempt of a training: creates the RayJob of MANIFEST, unless one is at work, and waits for its end.
#   retrain.sh MANIFEST
# Patches of it lie beside it, as overlays leave them: rayjob-NAME.yaml for rayjob.yaml, applied in the order of their names.
# The Job around it (retrain-cronjob.yaml) makes the next attempt, by the exit status:
#    0  trained, or skipped because another training is at work, or nothing to do by ANSWER
#    1  failed: tried again, three times in all
#    2  failed, and of no use to try again: a person has to look
#   75  preempted, a checkpoint was written: tried again, and not counted
#
# Never two at once, by three things:
# - while this pod waits, the CronJob's `Forbid` starts no other;
# - a training that was started by hand is found in the list, and so is this Job's own, whose pod was evicted;
# - of two that see an empty list in the same moment one wins: both ask for the same name, the next number.
#
# The label tadscale-run is the Job's name and the beginning of its id, which no other Job ever repeats: by it an attempt finds
# the RayJob of the one before. Numbers are repeated: they begin at 1 again where finished RayJobs are deleted. The training's
# own run is named by jobs/retrain.yaml (NAME-DIGEST); TADSCALE_RUN, the same as the label, names that of an ordinary job.
set -eu
trap 'exit 143' TERM # a shell with process id 1 ignores it otherwise

manifest=$1
: "${NAMESPACE:?}" "${JOB_NAME:?}" "${JOB_UID:?}"
poll_s=${POLL_S:-30}
cluster_gone_s=${CLUSTER_GONE_S:-240} # KubeRay deletes a finished cluster after 60 s, its pods have 120 s
lost_polls_allowed=20                 # 10 minutes without an answer from the API server
stuck_s=259200                        # 3 days: KubeRay ends a RayJob of ours after 2
answer=${ANSWER:-} # file with the answer of `tadscale plan`; none: create, and let the training look itself
run=$(printf '%.54s-%.8s' "$JOB_NAME" "$JOB_UID") # at most 63 characters, it is a label too

rayjobs() {
    kubectl --namespace "$NAMESPACE" "$@"
}

pause() {
    sleep "$1" &
    wait $! # `sleep` by itself would hold SIGTERM back until its end
}

give_up() {
    echo "$1" >&2
    exit 2
}

# The RayJob to create: the manifest with its patches, its name, its run and, if IMAGE is set, that image.
rendered() {
    set -- "${manifest%.yaml}"-*.yaml
    if [ -e "$1" ]; then
        work=$(mktemp -d)
        cp "$manifest" "$@" "$work"
        echo "resources: [$(basename "$manifest")]" >"$work/kustomization.yaml"
        echo "patches:" >>"$work/kustomization.yaml"
        for patch in "$@"; do
            echo "  - {path: $(basename "$patch"), target: {kind: RayJob}}" >>"$work/kustomization.yaml"
        done
        kubectl kustomize "$work"
    else
        cat "$manifest"
    fi | sed -e "s/distill-00000/$name/" -e "s/run-00000/$run/" -e "s|tadscale:[0-9][^ ]*$|${IMAGE:-&}|"
}

# Ends this attempt when its cluster is gone: the next one needs its nodes, and must not find its driver alive.
try_again() {
    echo "$2" >&2
    pause "$cluster_gone_s"
    exit "$1"
}

# One line a RayJob. A list that fails ends the script (set -e): no answer is no "none".
columns='{.metadata.name},{.status.jobDeploymentStatus},{.status.rayClusterName},{.metadata.labels.tadscale-run}'
columns="$columns,{.status.jobStatus},{.metadata.creationTimestamp},{.metadata.labels.kueue\.x-k8s\.io/queue-name}"
known=$(rayjobs get rayjobs --selector app.kubernetes.io/name=distill --output \
    "jsonpath={range .items[*]}$columns{\"\\n\"}{end}")

# This Job's own, at work or with success, is the one to wait for.
# Final are Complete and Failed (KubeRay's IsJobDeploymentTerminal), and a manifest that was refused before it got a
# cluster. Any other state counts as unfinished: not yet seen by the operator (empty), Retrying, one of a later version.
# Of these the ones that do not move by themselves block: suspended (unless they wait in a queue of Kueue's), edited while
# they ran, or there for too long.
old=$(date -u -d "@$(($(date +%s) - stuck_s))" +%Y-%m-%dT%H:%M:%SZ)
found=$(printf '%s\n' "$known" | awk -F, -v run="$run" -v old="$old" '
    $1 == "" { next }
    $4 == run && $2 == "Complete" && $5 == "SUCCEEDED" { found["own"] = $1; next }
    $2 == "Complete" || $2 == "Failed" || ($2 == "ValidationFailed" && $3 == "") { next }
    $4 == run { found["own"] = $1; next }
    { kind = ($2 ~ /^Suspend/ && $7 == "") || $2 == "ValidationFailed" || ($6 != "" && $6 < old) ? "blocked" : "busy" }
    { found[kind] = $1 " (" ($2 == "" ? "New" : $2) ", of " $6 ")" }
    END {
        first = "own" in found ? "own" : "blocked" in found ? "blocked" : "busy"
        print first " " found[first]
    }')
case $found in
"blocked "*)
    give_up "blocked by ${found#* }: it is not finished, and does not go on by itself. Resume it if it is suspended
(kubectl --namespace $NAMESPACE edit rayjob, and there spec.suspend: false), or delete it"
    ;;
"busy "?*)
    echo "skipped: not finished yet: ${found#* }"
    exit 0
    ;;
"own "*)
    name=${found#* }
    echo "$name is of this Job already: waiting for its end"
    ;;
*)
    if [ -n "$answer" ]; then
        said=$(cat "$answer") # apart: in a condition `set -e` would not see that there is none
    fi
    if [ "${said:-}" = "nothing to do" ]; then
        echo "nothing to do: no RayJob is created (kubectl logs --container look says why)"
        exit 0
    fi
    number=$(printf '%s\n' "$known" | awk -F, '
        $1 ~ /^distill-[0-9]+$/ && substr($1, 9) + 0 > last { last = substr($1, 9) + 0 }
        END { print last + 1 }')
    name=$(printf 'distill-%05d' "$number")
    if ! created=$(rendered | rayjobs create --filename - 2>&1); then
        echo "could not create $name, the next attempt looks again: $created" >&2
        exit 1
    fi
    echo "$created, run $run"
    ;;
esac

lost_polls=0
while :; do
    pause "$poll_s"
    if status=$(rayjobs get rayjob "$name" --ignore-not-found --output \
        'jsonpath={.metadata.name},{.status.jobDeploymentStatus},{.status.jobStatus},{.status.message}'); then
        lost_polls=0
    else
        lost_polls=$((lost_polls + 1))
        if [ "$lost_polls" -ge "$lost_polls_allowed" ]; then
            echo "lost sight of $name; it may still be at work" >&2
            exit 1
        fi
        continue
    fi
    # The exit code of the job is in the message alone, in Ray's words; behind it come lines of the job's log.
    case ${status#"$name,"} in
    Complete,SUCCEEDED,*)
        echo "$name succeeded"
        exit 0
        ;;
    Failed,FAILED,"Job entrypoint command failed with exit code 75"[,.]*)
        try_again 75 "$name was preempted; run $run goes on from its last checkpoint"
        ;;
    Failed,*)
        try_again 1 "$name failed: $status"
        ;;
    Complete,* | ValidationFailed,*) # stopped by a person, refused by KubeRay
        give_up "$name ended: $status; kubectl --namespace $NAMESPACE describe rayjob $name"
        ;;
    "")
        give_up "$name was deleted"
        ;;
    esac
done

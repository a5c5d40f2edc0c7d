#!/bin/sh
# Creates the RayJob of MANIFEST, unless one has not finished, and waits for its end: retrain.sh MANIFEST
# Exit status: 0 trained, or skipped because another is at it; 1 failed, or could not find out.
#
# Never two at once, by three things:
# - while this pod waits, the CronJob's `Forbid` starts no other;
# - a training whose pod was evicted, or which was started by hand, is found in the list;
# - of two that see an empty list in the same moment one wins: both ask for the same name, the next number.
set -eu

manifest=$1
: "${NAMESPACE:?}"
poll_s=${POLL_S:-30}
lost_polls_allowed=20 # 10 minutes without an answer from the API server

rayjobs() {
    kubectl --namespace "$NAMESPACE" "$@"
}

# One line a RayJob: name,deployment status,cluster. A list that fails ends the script (set -e): no answer is no "none".
known=$(rayjobs get rayjobs --selector app.kubernetes.io/name=distill --output \
    'jsonpath={range .items[*]}{.metadata.name},{.status.jobDeploymentStatus},{.status.rayClusterName}{"\n"}{end}')

# Final are Complete and Failed (KubeRay's IsJobDeploymentTerminal), and a manifest that was refused before it got a
# cluster. Anything else counts as at work: not yet seen by the operator (empty), Retrying, Suspended by a queue.
unfinished=$(printf '%s\n' "$known" | awk -F, '
    $1 == "" || $2 == "Complete" || $2 == "Failed" || ($2 == "ValidationFailed" && $3 == "") { next }
    { print $1 " (" ($2 == "" ? "New" : $2) ")" }')
if [ -n "$unfinished" ]; then
    echo "skipped: not finished yet: $unfinished"
    exit 0
fi

number=$(printf '%s\n' "$known" | awk -F, '
    $1 ~ /^distill-[0-9]+$/ && substr($1, 9) + 0 > last { last = substr($1, 9) + 0 }
    END { print last + 1 }')
name=$(printf 'distill-%05d' "$number")
if ! answer=$(sed "s/distill-00000/$name/" "$manifest" | rayjobs create --filename - 2>&1); then
    case $answer in
    *AlreadyExists*)
        echo "skipped: $name was created by another in this moment"
        exit 0
        ;;
    esac
    echo "could not create $name: $answer" >&2
    exit 1
fi
echo "$answer"

lost_polls=0
while :; do
    sleep "$poll_s"
    if status=$(rayjobs get rayjob "$name" --output 'jsonpath={.status.jobDeploymentStatus},{.status.jobStatus}'); then
        lost_polls=0
    else
        lost_polls=$((lost_polls + 1))
        if [ "$lost_polls" -ge "$lost_polls_allowed" ]; then
            echo "lost sight of $name; it may still be at work" >&2
            exit 1
        fi
        continue
    fi
    case $status in
    Complete,SUCCEEDED)
        echo "$name succeeded"
        exit 0
        ;;
    Complete,* | Failed,* | ValidationFailed,*)
        echo "$name ended: $status; kubectl --namespace $NAMESPACE describe rayjob $name" >&2
        exit 1
        ;;
    esac
done

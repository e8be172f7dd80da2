#!/bin/sh
# Runs task.yaml of the current folder in $IMAGE, which has sandbox-agent on its PATH. `docker stop
# agent` interrupts it. The records are beside the workspace: tools must not write there.
# With Docker's defaults the plan is no_namespaces. For a full plan add --security-opt with
# seccomp=unconfined, systempaths=unconfined and, where the host has AppArmor, apparmor=unconfined.
# `sandbox-agent doctor` in the container says whether the host must change, too (Ubuntu 24.04).
mkdir -p ../runs
exec docker run --rm --init --name agent --stop-timeout 90 --user "$(id -u):$(id -g)" \
    --env HOME=/tmp --env OPENAI_API_KEY \
    --volume "$PWD:/work" --volume "$PWD/../runs:/runs" --workdir /work \
    "$IMAGE" sandbox-agent run task.yaml --out /runs

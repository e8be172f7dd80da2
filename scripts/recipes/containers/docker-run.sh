#!/bin/sh
# Runs task.yaml of the current folder in $IMAGE, which has sandbox-agent on its PATH. `docker stop
# agent` interrupts it. The records are beside the workspace: tools must not write there.
# With Docker's defaults the plan is no_namespaces. For a full plan, as a user, add
# --security-opt seccomp=unconfined --security-opt systempaths=unconfined
mkdir -p ../runs
exec docker run --rm --init --name agent --stop-timeout 90 --user "$(id -u):$(id -g)" \
    --env HOME=/tmp --env OPENAI_API_KEY \
    --volume "$PWD:/work" --volume "$PWD/../runs:/runs" --workdir /work \
    "$IMAGE" sandbox-agent run task.yaml --out /runs

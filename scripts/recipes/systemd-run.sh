#!/bin/sh
# Runs task.yaml as a unit of your systemd; `systemctl --user stop agent` interrupts it.
# KillMode=mixed: the first signal is for sandbox-agent alone, so the tools keep their grace period.
exec systemd-run --user --unit=agent --wait --pipe --collect --same-dir \
    --property=KillMode=mixed --property=TimeoutStopSec=90 --property=RuntimeMaxSec=1h \
    --setenv=OPENAI_API_KEY --setenv="PATH=$PATH" \
    sandbox-agent run task.yaml --out runs

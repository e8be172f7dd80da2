"""The walls, and the life and the end of what runs inside them.

`policy` (what is wanted) and `probe` (what this host can do) give a `plan`; a `cell` is one
sandbox made from it. The `ladder` is the only place that signals processes. What runs inside the
walls (`spawner`, `init`, `call_init`, `worker`) imports `sandbox_agent_ipc` and the plan's
Structs, and neither pydantic nor psutil.
"""

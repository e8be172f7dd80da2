"""The sandbox: its walls, and how the processes inside start and end.

`policy` says what is allowed, and turns it into a `plan`. `host` builds a sandbox from a plan and
ends what runs in it; its ladder is the only code that signals processes. `inside` runs behind the
walls. It imports the standard library, msgspec, `sandbox_agent_ipc` and the shared modules beside
this file. `sandbox/README.md` is the manual.
"""

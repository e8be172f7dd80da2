"""Whether this host can do a plan with namespaces and without a fresh /proc."""

from __future__ import annotations

from sandbox_agent_sandbox.plan import PlanKind
from sandbox_agent_sandbox.policy.identity import identity_for
from sandbox_agent_sandbox.policy.kinds.found import Found
from sandbox_agent_sandbox.policy.probe import HostFacts, try_in_child

_TRIAL = """
from sandbox_agent_sandbox.inside.shared_proc import SharedProc
from sandbox_agent_sandbox.inside.walls.landlock import OLDEST, landlock_abi
from sandbox_agent_sandbox.inside.walls.namespaces import enter_namespaces, switch_user, write_maps
from sandbox_agent_sandbox.plan import Identity

def attempt(what, do, *arguments):
    try:
        do(*arguments)
    except OSError as error:
        sys.exit(f'{what}: {error}')

def mount():
    s.mount(None, '/', None, s.MS_REC | s.MS_PRIVATE)
    SharedProc().mount('/proc', '/dev/null')

identity = Identity(*map(int, os.environ['IDENTITY'].split()))
if landlock_abi() < OLDEST:
    sys.exit(f'Landlock: its version is {landlock_abi()}, and {OLDEST} is needed (Linux 5.19)')
unshared, mapped = os.pipe(), os.pipe()
child = os.fork()
if child == 0:
    os.close(mapped[1])
    attempt('namespaces', enter_namespaces, 'none')
    os.write(unshared[1], b'x')
    if not os.read(mapped[0], 1):
        os._exit(1)
    attempt('the user', switch_user, identity)
    if os.fork() == 0:
        attempt('a copy of /proc', mount)
        os._exit(0)
    os._exit(os.waitstatus_to_exitcode(os.wait()[1]))
os.close(unshared[1])
if os.read(unshared[0], 1):
    attempt('id maps', write_maps, child, identity)
    os.write(mapped[1], b'x')
if os.waitpid(child, 0)[1]:
    os._exit(1)
"""


def try_shared_proc(facts: HostFacts) -> Found:
    """Try it in a child: the namespaces, the id maps, and a copy of /proc in them."""
    identity = identity_for(PlanKind.SHARED_PROC, facts, None)
    ids = (
        identity.inside_uid,
        identity.inside_gid,
        identity.outside_uid,
        identity.outside_gid,
    )
    why = try_in_child(_TRIAL, {"IDENTITY": " ".join(map(str, ids))})
    if not why:
        return Found(works=True)
    hint = "allow user namespaces; in a container, a seccomp profile that allows unshare and mount"
    if why.startswith("Landlock"):
        hint = "Linux 5.19 or newer with Landlock, or unmask /proc"
    return Found(works=False, why=why, hint=hint)

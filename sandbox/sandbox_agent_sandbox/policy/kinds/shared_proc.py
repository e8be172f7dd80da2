"""Whether this host can do a plan with namespaces and without a fresh /proc, and in the same child
whether a fresh one can be mounted."""

from __future__ import annotations

import errno

from sandbox_agent_sandbox.plan import PlanKind
from sandbox_agent_sandbox.policy.identity import identity_for
from sandbox_agent_sandbox.policy.kinds.found import Found
from sandbox_agent_sandbox.policy.probe import HostFacts, try_in_child

_TRIAL = """
from contextlib import suppress
from sandbox_agent_sandbox.inside.shared_proc import SharedProc
from sandbox_agent_sandbox.inside.walls.landlock import OLDEST, landlock_abi
from sandbox_agent_sandbox.inside.walls.namespaces import enter_namespaces, switch_user, write_maps
from sandbox_agent_sandbox.plan import Identity

def attempt(what, do, *arguments):
    try:
        do(*arguments)
    except OSError as error:
        sys.exit(f'{what}: {error}')

def wait_for(child):
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        os.kill(os.getpid(), os.WTERMSIG(status))  # who ended it said nothing of this host
    if status:
        os._exit(1)

def mount():
    s.mount(None, '/', None, s.MS_REC | s.MS_PRIVATE)
    if os.environ.get('FRESH'):
        with suppress(OSError):
            s.mount('proc', '/proc', 'proc', 0)
            sys.exit('fresh')
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
    first = os.fork()
    if first == 0:
        attempt('a copy of /proc', mount)
        os._exit(0)
    wait_for(first)
    os._exit(0)
os.close(unshared[1])
if os.read(unshared[0], 1):
    attempt('id maps', write_maps, child, identity)
    os.write(mapped[1], b'x')
wait_for(child)
"""


def try_shared_proc(facts: HostFacts) -> Found:
    """Try it in a child: the namespaces, the id maps, and a copy of /proc in them."""
    return _found(_try(facts))


def try_with_fresh(facts: HostFacts) -> tuple[Found | None, Found | None]:
    """What is found of a full plan and of this kind; None for what is not known.

    A full plan is found only to be refused. Whether it works is known when it is built.
    """
    why = _try(facts, FRESH="yes")
    if why == _FRESH:
        return None, None
    shared = _found(why)
    if not why:
        why = "a fresh /proc: parts of the one that is there are masked"
        return Found(works=False, why=why, hint=_UNMASK), shared
    refused = any(f"[Errno {number}]" in why for number in _FORBIDDEN)
    return Found(works=False, why=why, hint=shared.hint) if refused else None, shared


_FORBIDDEN = (errno.EPERM, errno.EACCES, errno.EROFS, errno.EINVAL, errno.ENOSYS)
_FRESH, _LANDLOCK = "fresh", "Landlock"
_UNMASK = "in a container, unmask /proc (docker: --security-opt systempaths=unconfined)"


def _try(facts: HostFacts, **environment: str) -> str:
    identity = identity_for(PlanKind.SHARED_PROC, facts, None)
    ids = (
        identity.inside_uid,
        identity.inside_gid,
        identity.outside_uid,
        identity.outside_gid,
    )
    return try_in_child(_TRIAL, {"IDENTITY": " ".join(map(str, ids)), **environment})


def _found(why: str) -> Found:
    if not why:
        return Found(works=True)
    hint = "allow user namespaces; in a container, a seccomp profile that allows unshare and mount"
    if why.startswith(_LANDLOCK):
        hint = "Linux 5.19 or newer with Landlock, or unmask /proc"
    return Found(works=False, why=why, hint=hint)

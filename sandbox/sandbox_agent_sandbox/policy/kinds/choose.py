"""The kind of plan for a sandbox, by what the policy asks for and this host can do.

A host that can do a full plan is not asked: the sandbox is built, and only where that fails the
kinds are tried, each in a child, and once in a process. So a full plan costs nothing more.

Where parts of /proc are masked, as in containers, the kernel mounts no fresh one. A full plan would
fail there after some 100 ms, so one child tries first how far one comes.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from sandbox_agent_ipc.shortage import start_thread

from sandbox_agent_sandbox.errors import NoPlan, SandboxUnavailable
from sandbox_agent_sandbox.plan import PlanKind
from sandbox_agent_sandbox.policy.kinds.found import Found
from sandbox_agent_sandbox.policy.probe import HostFacts, trials_of_thread
from sandbox_agent_sandbox.steps import Step

if TYPE_CHECKING:
    from sandbox_agent_sandbox.policy.any_policy import AnyPolicy

AUTO = "auto"

_known: dict[PlanKind, Found] = {}
"""What has been tried in this process."""


def found(kind: PlanKind, facts: HostFacts) -> Found:
    """Whether this host can do a kind. It is tried once in a process."""
    if kind not in _known:
        _known[kind] = _try(kind, facts)
    return _known[kind]


def _try(kind: PlanKind, facts: HostFacts) -> Found:
    # Imported here: a full plan is built without any of it, and ctypes alone takes 5 ms.
    match kind:
        case PlanKind.FULL:
            from sandbox_agent_sandbox.policy.kinds.full import try_full

            return try_full(facts)
        case PlanKind.SHARED_PROC:
            from sandbox_agent_sandbox.policy.kinds.shared_proc import try_shared_proc

            return try_shared_proc(facts)
        case PlanKind.NO_NAMESPACES:
            from sandbox_agent_sandbox.policy.kinds.no_namespaces import try_no_namespaces

            return try_no_namespaces(facts)


def choose_at_once(policy: AnyPolicy) -> PlanKind | None:
    """The kind to build by where nothing has to be tried for it; else None."""
    wanted = _kinds(policy)[0]
    tried = policy.plan == AUTO and (wanted in _known or _is_masked())
    return wanted if wanted is PlanKind.FULL and not tried else None


def _is_masked() -> bool:
    """Whether something is mounted over a part of /proc that containers mask. Five stat(2)."""
    masks = {_device(path) for path in ("/proc/kcore", "/proc/keys", "/proc/acpi", "/proc/scsi")}
    return bool(masks - {None, _device("/proc")})


def _device(path: str) -> int | None:
    try:
        return os.stat(path).st_dev
    except OSError:
        return None


def choose(policy: AnyPolicy, facts: HostFacts) -> PlanKind:
    """The kind that a sandbox is to be built by.

    Raises NoPlan, with all reasons, where this host can do none that the policy allows.
    """
    kind = choose_at_once(policy)
    if kind is None and policy.plan == AUTO and PlanKind.FULL not in _known:
        _try_at_once(facts)
        kind = None if PlanKind.FULL in _known else PlanKind.FULL
    return kind or _first(_kinds(policy), facts)


def _try_at_once(facts: HostFacts) -> None:
    """Find out in one child how far a plan with namespaces comes."""
    from sandbox_agent_sandbox.policy.kinds.shared_proc import try_with_fresh

    with _looking_ahead(facts):
        full, shared = try_with_fresh(facts)
    _known.update({PlanKind.FULL: full} if full else {})
    _known.update({PlanKind.SHARED_PROC: shared} if shared else {})


@contextmanager
def _looking_ahead(facts: HostFacts) -> Iterator[None]:
    """Meanwhile, in another child, whether a plan without namespaces can be had: most hosts that
    can do no full plan can do only that."""

    def look() -> None:
        with suppress(Exception):  # it is tried again where it is needed
            found(PlanKind.NO_NAMESPACES, facts)

    # Who abandons the trials of this thread ends the child of that one, too.
    trials = trials_of_thread()
    thread = threading.Thread(
        target=trials.during, args=(look,), name="sandbox-agent look ahead", daemon=True
    )
    if PlanKind.NO_NAMESPACES not in _known:
        start_thread(thread)
    try:
        yield
    finally:
        if thread.ident is not None:
            thread.join()


def choose_again(
    policy: AnyPolicy, facts: HostFacts, kind: PlanKind, failure: SandboxUnavailable
) -> PlanKind:
    """The kind to build by when a sandbox of this kind could not be built.

    Raises the failure itself where this host can do the kind: then the reason is another one.
    Raises NoPlan where it can do none that the policy allows.
    """
    if policy.plan != AUTO:
        raise NoPlan(str(failure)) if _refuses(failure) else failure
    if _refuses(failure):
        what, _, hint = str(failure).partition("; hint: ")
        if failure.number not in _SHORT:
            _known[kind] = Found(works=False, why=what, hint=hint)
    elif found(kind, facts).works:
        raise failure
    kinds = _kinds(policy)
    kinds = kinds[kinds.index(kind) + 1 :]
    try:
        if PlanKind.SHARED_PROC in kinds and PlanKind.SHARED_PROC not in _known:
            with _looking_ahead(facts):
                found(PlanKind.SHARED_PROC, facts)
        return _first(kinds, facts)
    except NoPlan as others:
        # What the strongest kind failed for comes first, with the hint for it.
        what, separator, hint = str(failure).partition("; hint: ")
        reasons = str(others).partition("; hint: ")[0]
        raise NoPlan(f"{what}\n{reasons}{separator}{hint}") from None


def _refuses(failure: SandboxUnavailable) -> bool:
    """Whether the host refused what a plan with namespaces is built by. The trials are cheaper than
    building, and may miss it."""
    return failure.number in _REFUSALS.get(failure.step, ())


_SHORT = (errno.ENOSPC, errno.EUSERS)
"""There are too many namespaces, or may be none. The former ends, so it is not remembered."""
_FORBIDDEN = (errno.EPERM, errno.EACCES, errno.EROFS, errno.EINVAL, errno.ENOSYS)
_REFUSALS: Mapping[str, tuple[int, ...]] = {
    Step.NAMESPACES: (*_FORBIDDEN, *_SHORT),
    Step.MAPS: _FORBIDDEN,
    Step.COPY: (errno.EPERM, errno.ENOSYS),
}
"""The errors of each step that say so. unshare(2), user_namespaces(7), open_tree(2)"""


def _kinds(policy: AnyPolicy) -> list[PlanKind]:
    """What the policy allows, the strongest first."""
    return list(PlanKind) if policy.plan == AUTO else [PlanKind(policy.plan)]


def _first(kinds: list[PlanKind], facts: HostFacts) -> PlanKind:
    """The first that this host can do. Raises NoPlan with the reason of each."""
    refused = []
    for kind in kinds:
        tried = found(kind, facts)
        if tried.works:
            return kind
        refused.append(tried)
    pairs = zip(kinds, refused, strict=True)
    reasons = (f"the plan {kind} cannot be done here: {tried.why}" for kind, tried in pairs)
    hint = next((f"; hint: {tried.hint}" for tried in refused if tried.hint), "")
    raise NoPlan("\n".join(reasons) + hint)

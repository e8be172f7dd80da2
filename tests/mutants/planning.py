"""What a sandbox is made of: the policy, and the plan that follows from it."""

from __future__ import annotations

from mutants.mutant import SANDBOX, mutant

_PLAN = f"{SANDBOX}/policy/make_plan.py"
_MASKS = f"{SANDBOX}/policy/masks.py"
_NAMED_PATHS = f"{SANDBOX}/policy/named_paths.py"
_ENVIRONMENT = f"{SANDBOX}/policy/environment.py"
_POLICY = f"{SANDBOX}/policy/policy.py"
_GOLDEN = "sandbox/policy/test_make_plan.py"
_REFUSED = "sandbox/policy/test_make_plan_refusals.py"
_LANDLOCK = "sandbox/policy/test_landlock.py"
_SECCOMP = "sandbox/policy/test_seccomp.py"
_REFUSALS = "sandbox/policy/test_policy.py"

MUTANTS = (
    mutant(
        "the host's resolv.conf is shown without the host's network",
        _GOLDEN,
        f"{SANDBOX}/policy/system.py",
        'hidden = _SECRETS if network == "host" else (*_SECRETS, *_RESOLVER)',
        "hidden = _SECRETS",
    ),
    mutant(
        "what not every account may read in /etc is shown",
        _GOLDEN,
        f"{SANDBOX}/policy/system.py",
        "if not _for_everybody(entry)]",
        "if not entry]",
    ),
    mutant(
        "entries of $PATH that contain $HOME are shown",
        _GOLDEN,
        f"{SANDBOX}/policy/programs.py",
        "if is_inside(self._home, real) or",
        "if",
    ),
    mutant(
        "Landlock lets what is only read be written",
        _LANDLOCK,
        f"{SANDBOX}/policy/rules/landlock.py",
        "if bind.writable and not",
        "if not",
    ),
    mutant(
        "Landlock lets devices be made",
        _LANDLOCK,
        f"{SANDBOX}/policy/rules/landlock.py",
        "| MAKE_DIR | MAKE_REG |",
        "| MAKE_CHAR | MAKE_DIR | MAKE_REG |",
    ),
    mutant(
        "sockets of the kernel's odd protocols can be made",
        _SECCOMP,
        f"{SANDBOX}/policy/rules/seccomp.py",
        "Condition(2, _PROTOCOLS)),",
        "),",
    ),
    mutant(
        "the filter takes a pair of sockets of any family",
        _SECCOMP,
        f"{SANDBOX}/policy/rules/seccomp.py",
        """            unless=((Condition(0, (_AF_UNIX,)),),),
""",
        "            unless=((),),\n",
    ),
    mutant("LANG is wrong", _GOLDEN, _ENVIRONMENT, '"LANG": "C.UTF-8"', '"LANG": "C"'),
    mutant(
        "our own code is not guarded",
        _GOLDEN,
        _PLAN,
        "        view.guard(root)\n",
        "        pass\n",
    ),
    mutant(
        "what is protected stays writable",
        _GOLDEN,
        _PLAN,
        "        view.add(real, remap=True)\n",
        "        view.add(real, writable=True)\n",
    ),
    mutant(
        "what is to be read is writable",
        _GOLDEN,
        _PLAN,
        '"read", view.writable)\n        view.add(path.absolute(), remap=True)',
        '"read", view.writable)\n        view.add(path.absolute(), writable=True)',
    ),
    mutant(
        "the network is always the host's",
        _GOLDEN,
        _PLAN,
        "network=_network(policy, kind),",
        'network="host",',
    ),
    mutant(
        "tools get the whole environment of the agent",
        _GOLDEN,
        _ENVIRONMENT,
        "    for name in policy.env.pass_:\n",
        "    for name in facts.environment:\n",
    ),
    mutant(
        "a policy cannot set HOME",
        _GOLDEN,
        _ENVIRONMENT,
        "    environment.update(policy.env.set)\n",
        '    environment.update({**policy.env.set, "HOME": HOME})\n',
    ),
    mutant(
        "records in reach of the tools are not hidden",
        _GOLDEN,
        _MASKS,
        "        yield Mask(str(real), True, reason=MaskedFor.RECORDS)\n",
        "",
    ),
    mutant(
        "a limit of CPU time is rounded down",
        _GOLDEN,
        _PLAN,
        "else ceil(limits.cpu_time)",
        "else int(limits.cpu_time)",
    ),
    mutant(
        "a link that tools can replace may be protected",
        _REFUSED,
        _PLAN,
        'refuse_link("protect", workspace / path, view.writable)',
        "pass",
    ),
    mutant(
        "the home folder may be writable as a whole",
        _REFUSED,
        _PLAN,
        'if field == "write" and is_inside(view.home, real):',
        "if False:",
    ),
    mutant(
        "binds are ordered from the inside out",
        _GOLDEN,
        f"{SANDBOX}/policy/view.py",
        'key=lambda bind: (bind.path.count("/"), bind.path)',
        'key=lambda bind: (-bind.path.count("/"), bind.path)',
    ),
    mutant(
        "tools' code comes first on the import path",
        _GOLDEN,
        _ENVIRONMENT,
        '[*own, *(str(path) for path in tool_paths if path.suffix != ".py")]',
        '[*(str(path) for path in tool_paths if path.suffix != ".py"), *own]',
    ),
    mutant(
        "a link that tools can write shows what lies elsewhere",
        _REFUSED,
        f"{SANDBOX}/policy/paths.py",
        "    return Followed(real, links, left=left)",
        "    return Followed(real, links)",
    ),
    mutant(
        "a git folder is shown that does not name the workspace",
        "sandbox/policy/test_git.py",
        f"{SANDBOX}/policy/git.py",
        ' and named == f"{workspace}/.git"',
        "",
    ),
    mutant(
        "what git executes on the host can be written",
        "sandbox/policy/test_git.py",
        f"{SANDBOX}/policy/git.py",
        "                view.add(path, remap=True)\n",
        "                view.add(path, writable=True)\n",
    ),
    mutant(
        "a proxy with a password is passed to tools",
        "sandbox/policy/test_environment.py",
        _ENVIRONMENT,
        'if "@" not in value and',
        "if",
    ),
    mutant(
        "/proc can be shared",
        _REFUSED,
        _NAMED_PATHS,
        'if is_inside_any(str(real), KERNEL_FOLDERS) or real == Path("/"):',
        'if real == Path("/"):',
    ),
    mutant(
        "what is to be hidden and does not exist yet is left as it is",
        _REFUSED,
        _MASKS,
        "        if not os.path.exists(real):\n            raise PolicyError(\n",
        "        if not os.path.exists(real):\n            continue\n"
        "        if not path:\n            raise PolicyError(\n",
    ),
    mutant(
        "records may lie in the workspace's own folder",
        _REFUSED,
        _MASKS,
        "        if real == workspace or real in workspace.parents:\n"
        "            raise PolicyError(\n",
        "        if real == workspace.root:\n            raise PolicyError(\n",
    ),
    mutant(
        "an unknown field of a policy is ignored",
        _REFUSALS,
        _POLICY,
        'ConfigDict(extra="forbid", frozen=True',
        'ConfigDict(extra="ignore", frozen=True',
    ),
    mutant(
        "a field that is not enforced is ignored",
        _REFUSALS,
        _POLICY,
        "        if named:\n",
        "        if not cls:\n",
    ),
    mutant(
        "a policy may set a secret",
        "sandbox/policy/test_secrets.py",
        _POLICY,
        "    if not found:\n        return variables\n",
        "    return variables\n",
    ),
    mutant(
        "a password in a URL looks harmless",
        "sandbox/policy/test_secrets.py",
        f"{SANDBOX}/policy/fields/secrets.py",
        "    if _PASSWORD_IN_URL.search(value):\n",
        "    if _PASSWORD_IN_URL.fullmatch(value):\n",
    ),
    mutant(
        "a KiB is 1000 bytes",
        "sandbox/policy/test_units.py::test_sizes",
        f"{SANDBOX}/policy/fields/units.py",
        "(1024 if binary else 1000)",
        "(1000 if binary else 1000)",
    ),
    mutant(
        "a field that this host cannot keep is not refused",
        "sandbox/policy/test_levels.py",
        f"{SANDBOX}/policy/levels.py",
        "        if fact.level is Level.MISSING and ASKS",
        "        if fact.level is Level.ENFORCED and ASKS",
    ),
    mutant(
        "leave for one field is leave for all",
        "sandbox/policy/test_levels.py",
        f"{SANDBOX}/policy/levels.py",
        "if not {fact.name, EVERY_FIELD} & {*allowed}]",
        "if not allowed]",
    ),
    mutant(
        "a plan that is named is replaced by a weaker one",
        "sandbox/policy/test_kinds.py",
        f"{SANDBOX}/policy/kinds/choose.py",
        "    if policy.plan != AUTO:",
        '    if policy.plan == "":',
    ),
    mutant(
        "a failure that says nothing about the host leads to a weaker plan",
        "sandbox/policy/test_kinds.py",
        f"{SANDBOX}/policy/kinds/choose.py",
        "    return failure.number in _REFUSALS.get(failure.step, ())",
        "    return True",
    ),
    mutant(
        "a change that gives less than it says is the hint",
        "sandbox/diagnosis/test_container.py",
        f"{SANDBOX}/diagnosis/changes.py",
        "    if MASKED & signs.covered.keys() and cause is not Cause.MASKED_PROC:",
        "    if False:",
    ),
    mutant(
        "a hint tells which files exist outside",
        "sandbox/diagnosis/test_hints.py",
        f"{SANDBOX}/diagnosis/hints.py",
        "        if answer.access in accesses:",
        "        if answer.access in accesses and os.path.exists(answer.real):",
    ),
)

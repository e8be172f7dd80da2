"""What a sandbox allows. Data only: these models are the documentation of the `sandbox:` field.

What is not allowed here does not exist inside. The file system holds the system's own read-only
folders (`/usr`, `/etc` without secrets), the interpreter, the programs of $PATH, the workspace, and
what `read` and `write` name. There is no network. The environment is an allow-list.

A field that this version does not enforce is refused, never ignored. The defaults are those of
`fields.plain`, where planning finds them without pydantic.
"""

from __future__ import annotations

import ast
import inspect
import itertools
import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError

from sandbox_agent_sandbox.errors import PolicyError
from sandbox_agent_sandbox.policy.fields.explain import dotted, explain
from sandbox_agent_sandbox.policy.fields.plain import (
    POLICY,
    PlainEnv,
    PlainLimits,
    PlainPolicy,
)
from sandbox_agent_sandbox.policy.fields.types import Count, Duration, PolicyPath, Size
from sandbox_agent_sandbox.policy.levels import known_field

DegradedField = Annotated[str, AfterValidator(known_field)]


_ENV, _LIMITS = POLICY.env, POLICY.limits

if TYPE_CHECKING:
    from pydantic._internal._model_construction import ModelMetaclass
else:
    ModelMetaclass = type(BaseModel)


class _MadeInPython(ModelMetaclass):
    """Fields may be given by position, and what is wrong with one is an error of ours.

    Data of a file is validated by `model_validate`, which does not come through here.
    """

    def __call__(cls, *values: Any, **fields: Any) -> Any:
        model: Any = cls
        if len(values) > len(model.model_fields):
            raise TypeError(f"{cls.__name__} takes at most {len(model.model_fields)} values")
        by_position = dict(zip(model.model_fields, values, strict=False))
        if twice := by_position.keys() & fields.keys():
            raise TypeError(f"{cls.__name__} got two values for {', '.join(sorted(twice))}")
        try:
            return super().__call__(**by_position, **fields)
        except ValidationError as error:
            raise model._error_from(error) from None


class Strict(BaseModel, metaclass=_MadeInPython):
    """Base of the models that people write: frozen, and an unknown field is an error.

    unenforced: planned fields, each with the feature that it stands for. They are refused, because
    a limit that is written and not enforced is worse than none, and are not in the JSON schema.

    Making one in Python raises PolicyError, with the field and the hint.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    unenforced: ClassVar[Mapping[str, str]] = {}

    @classmethod
    def _error_from(cls, error: ValidationError) -> Exception:
        """What a Python program gets for the first thing that is wrong."""
        detail = error.errors(include_url=False)[0]
        what, hint = explain(detail, cls)
        return PolicyError(what, field=dotted(detail["loc"]), hint=hint)

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Describe each field by the docstring beneath it.

        Not by pydantic's `use_attribute_docstrings`, which parses the source at every import: that
        costs every run a tenth of a second, and only `schema` shows the descriptions.
        """
        json_schema = handler(schema)
        properties = handler.resolve_ref_schema(json_schema).get("properties", {})
        texts: dict[str, str] = {}
        for base in reversed(cls.__mro__):
            if issubclass(base, Strict):
                texts |= _attribute_docstrings(base)
        for name, text in texts.items():
            field = cls.model_fields.get(name)
            shown = properties.get((field and field.alias) or name)
            if shown is not None:
                shown["description"] = text
        return json_schema

    @model_validator(mode="before")
    @classmethod
    def _refuse_unenforced(cls, data: Any) -> Any:
        named = [name for name in cls.unenforced if isinstance(data, Mapping) and name in data]
        if named:
            raise ValidationError.from_exception_data(
                cls.__name__,
                [
                    InitErrorDetails(
                        type=not_enforced(cls.unenforced[name]), loc=(name,), input=data[name]
                    )
                    for name in named
                ],
            )
        return data


def _attribute_docstrings(cls: type) -> dict[str, str]:
    """The text beneath each annotated name in the body of a class."""
    [body] = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    assert isinstance(body, ast.ClassDef)
    return {
        name.target.id: inspect.cleandoc(text.value.value)
        for name, text in itertools.pairwise(body.body)
        if isinstance(name, ast.AnnAssign)
        and isinstance(name.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
        and isinstance(text.value.value, str)
    }


def not_enforced(feature: str, hint: str = "remove it") -> PydanticCustomError:
    """The refusal of a feature that this version does not enforce."""
    return PydanticCustomError(
        "not_enforced",
        "this version does not enforce {feature}; {hint}",
        {"feature": feature, "hint": hint},
    )


def _variable_name(name: str) -> str:
    if not name or "=" in name or "\0" in name:
        raise ValueError(
            f"{name!r} cannot be the name of an environment variable; write a name without '='"
        )
    return name


def _variable_value(value: str) -> str:
    if "\0" in value:
        raise ValueError(
            "the value of an environment variable cannot contain a NUL byte; remove it"
        )
    return value


def _no_secrets(variables: dict[str, str]) -> dict[str, str]:
    """Refuse values that look like secrets: the policy is part of every run's record."""
    # Imported here, since few policies set variables.
    from sandbox_agent_sandbox.policy.fields.secrets import looks_secret

    found = {name: why for name in variables if (why := looks_secret(name, variables[name]))}
    if not found:
        return variables
    raise ValidationError.from_exception_data(
        "set",
        [
            InitErrorDetails(
                type=PydanticCustomError(
                    "secret_in_record",
                    "{name} {why}, and the record of every run holds what is set here; "
                    "set it outside and name it in env.pass, which keeps its value out of the "
                    "file and the record",
                    {"name": name, "why": why},
                ),
                loc=(name,),
                input=name,
            )
            for name, why in found.items()
        ],
    )


VariableName = Annotated[str, AfterValidator(_variable_name)]
VariableValue = Annotated[str, AfterValidator(_variable_value)]


class EnvPolicy(Strict):
    """The environment inside. The sandbox sets HOME and a few more to values of its own. Of the
    agent's environment, tools get the variables that are named here. They also get PATH as far as
    it is visible, time zone and language, and with the host's network proxies and certificates."""

    model_config = ConfigDict(validate_by_name=True, validate_by_alias=True)
    unenforced = {"secret": "secret variables (env.secret)"}

    pass_: list[VariableName] = Field(default=_ENV.pass_, alias="pass")
    """Names of variables that tools get with the value that they have outside. You are warned of a
    name that is not set there. The record of a run holds the names alone. The variable with the
    model's key is refused."""

    set: Annotated[dict[VariableName, VariableValue], AfterValidator(_no_secrets)] = _ENV.set
    """Variables that tools get with these values, also in place of the sandbox's own (HOME, PATH).
    The record of a run holds them. So a variable is refused whose name or value looks like a
    secret's (KEY, TOKEN, PASSWORD and the like), or whose value is a secret's outside: use `pass`
    for it."""

    @model_validator(mode="after")
    def _one_source_each(self) -> EnvPolicy:
        for name in self.pass_:
            if name in self.set:
                raise ValueError(f"{name} is in pass and in set; remove it from one of them")
        return self


class Limits(Strict):
    """How much the tools may use; null lifts a limit. A limit that a call meets is named in its
    result, with its number. Where it says "per process", the kernel counts per process."""

    timeout: Annotated[Duration, Field(gt=0)] | None = _LIMITS.timeout
    """Wall time of one call. When it is up, the call is stopped like an interrupted one, with
    outcome `timeout`."""

    memory: Annotated[Size, Field(ge=32 * 2**20)] | None = _LIMITS.memory
    """All calls of the sandbox together, with what lies in /dev/shm. Beyond it the largest process
    is ended. The kernel counts in a control group where this user may make one (root). Elsewhere
    the sandbox's init looks ten times a second: best effort."""

    call_memory: Annotated[Size, Field(ge=32 * 2**20)] | None = _LIMITS.call_memory
    """One call, as `memory`."""

    process_memory: Annotated[Size, Field(ge=32 * 2**20)] | None = _LIMITS.process_memory
    """Per process: writable private memory (RLIMIT_DATA). Programs that reserve much more than they
    use fail with it, such as AddressSanitizer, and a JVM beside a small limit."""

    processes: Annotated[Count, Field(ge=8)] | None = _LIMITS.processes
    """Processes and threads of all calls of the sandbox together (control group, RLIMIT_NPROC)."""

    cpu_time: Annotated[Duration, Field(ge=1)] | None = _LIMITS.cpu_time
    """Per process: CPU time, rounded up to whole seconds (RLIMIT_CPU). SIGXCPU comes first, and
    SIGKILL one second later."""

    open_files: Annotated[Count, Field(ge=32)] | None = _LIMITS.open_files
    """Per process: open descriptors (RLIMIT_NOFILE)."""

    file_size: Size | None = _LIMITS.file_size
    """The largest file that can be written (RLIMIT_FSIZE)."""

    tmp: Annotated[Size, Field(ge=2**20)] | None = _LIMITS.tmp
    """Size of /tmp with the home folder in it; null for no limit. It is on the disk, and empty when
    a sandbox is built. Up to 16 MiB are in memory."""

    shm: Annotated[Size, Field(ge=2**20)] | None = _LIMITS.shm
    """Size of /dev/shm, which is in memory; null for half of the machine's."""

    disk: Annotated[Size, Field(ge=2**20)] | None = _LIMITS.disk
    """How much tools may add to the disks of the workspace and of `write`; null for no limit. The
    host watches it (best effort): it stops the calls that are going. A file counts as 4 KiB at
    least."""

    output: Annotated[Size, Field(ge=1024)] | None = _LIMITS.output
    """Per call: how much is kept of what it prints, and as much of what it returns. The head and
    the tail are kept, with the number of bytes left out between them. null keeps all of it in the
    agent's memory."""

    @model_validator(mode="after")
    def _call_within_sandbox(self) -> Limits:
        both = self.call_memory, self.memory
        if None not in both and both[0] > both[1]:  # type: ignore[operator]
            raise ValueError(
                "call_memory is more than memory, which all calls have together; lower it, or"
                " remove it"
            )
        return self


class Policy(Strict):
    """What the tools may see, change and use.

    Paths: `~` is the home folder. A relative path in a task file starts at that file's folder, in a
    Python program at its current folder. Every path has inside the name that it has outside. The
    workspace is readable and writable without being named.
    """

    read: list[PolicyPath] = POLICY.read
    """Files and folders that are readable, beyond the defaults."""

    write: list[PolicyPath] = POLICY.write
    """Files and folders that are readable and writable, beyond the workspace."""

    hide: list[PolicyPath] = POLICY.hide
    """Files and folders that are hidden, inside of what is readable otherwise. They are empty
    inside; what git tracks is shut as well."""

    protect: list[PolicyPath] = POLICY.protect
    """Files and folders that are readable and not writable, inside of what is writable otherwise:
    for instance the tests that `verify` runs."""

    network: Literal["none", "loopback", "host"] = POLICY.network
    """`none`: only a loopback interface of the sandbox's own; without namespaces none at all.
    `loopback`: as `none`, for tools that need that interface. Without namespaces they have TCP on
    it, to servers that the same call has started; where that cannot be had, the run is refused.
    `host`: the host's network, with the services that listen on its loopback."""

    env: EnvPolicy = EnvPolicy()
    """The environment inside."""

    limits: Limits = Limits()
    """How much the tools may use."""

    protect_defaults: bool = POLICY.protect_defaults
    """Whether files that may start programs later are kept from tools, where they are there when
    the run begins: hooks of git, files that shells, editors, agents and CI systems run, and the
    task file. What git tracks stays writable. New settings of git that start programs are undone
    after each call. What was changed all the same is listed after the run. A path in `write` stays
    writable. `false` turns all but the list off."""

    plan: Literal["auto", "full", "shared_proc", "no_namespaces"] = POLICY.plan
    """By what all of this is kept. `full`: namespaces. `shared_proc`: namespaces, where a container
    masks /proc. `no_namespaces`: Landlock and seccomp. `auto`: the first of them that this host can
    do. `doctor` shows what each of them keeps."""

    allow_degraded: list[DegradedField] = POLICY.allow_degraded
    """Fields that this host need not keep, as `doctor` names them; `all` for every field. The run
    goes on without what is missing, and says so. Without this it ends with exit code 5."""

    @field_validator("network", mode="before")
    @classmethod
    def _no_allow_list(cls, value: Any) -> Any:
        if isinstance(value, Mapping):
            raise not_enforced(
                "an allow-list of hosts (network: {allow: ...})",
                "write network: none, loopback or host",
            )
        return value


def plain(policy: Policy) -> PlainPolicy:
    """The same policy as plain data."""
    values = {name: getattr(policy, name) for name in Policy.model_fields}
    values["env"] = PlainEnv(policy.env.pass_, policy.env.set)
    values["limits"] = PlainLimits(**dict(policy.limits))
    return PlainPolicy(**values)

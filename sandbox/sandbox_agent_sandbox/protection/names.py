"""Names of files and folders that other programs read, and that can make them run commands.

Only what runs by itself is listed: when a shell starts, a folder is opened or entered, a commit is
pushed, an agent begins. What people start themselves, such as a Makefile or `package.json`, is the
content of a workspace.
"""

from __future__ import annotations

from collections.abc import Mapping

_SHELL = "commands that a shell runs when it starts"
_ENTER = "commands that run when you enter the folder"
_EDITOR = "commands and settings of an editor"
_AGENT = "commands and tools of an agent"
_CI = "commands that a CI system runs"
_HOOKS = "commands that git runs"
_MERCURIAL = "settings of Mercurial, which name programs that it runs"
_PACKAGES = "settings that make a package manager run programs"
_DEBUGGER = "commands that a debugger or an interpreter runs when it starts"

NAMES: Mapping[str, str] = {
    **dict.fromkeys(
        (
            *(".bashrc", ".bash_profile", ".bash_login", ".bash_logout", ".bash_aliases"),
            *(".profile", ".zshrc", ".zshenv", ".zprofile", ".zlogin", ".zlogout", ".kshrc"),
            *(".mkshrc", ".cshrc", ".tcshrc", ".login", ".logout", ".xprofile", ".xinitrc"),
            *(".xsession", ".xsessionrc", ".pam_environment", ".inputrc", ".tmux.conf"),
            ".screenrc",
        ),
        _SHELL,
    ),
    **dict.fromkeys((".envrc", ".direnvrc", ".autoenv.zsh", ".autoenv"), _ENTER),
    **dict.fromkeys((".mise.toml", "mise.toml", ".miserc.toml"), _ENTER),
    **dict.fromkeys((".mise.local.toml", "mise.local.toml", ".mise"), _ENTER),
    ".autoenv_leave.zsh": _ENTER,
    **dict.fromkeys(
        (
            *(".vscode", ".idea", ".devcontainer", ".devcontainer.json", ".zed", ".fleet"),
            *(".vimrc", ".exrc", ".nvimrc", ".nvim.lua", ".dir-locals.el", ".emacs"),
            *(".lvimrc", ".dir-locals-2.el", ".helix"),
        ),
        _EDITOR,
    ),
    **dict.fromkeys(
        (
            *(".mcp.json", ".aider.conf.yml", "opencode.json", "opencode.jsonc", ".opencode"),
            *(".kiro", ".continue", ".windsurf", "crush.json", ".crush.json"),
        ),
        _AGENT,
    ),
    **dict.fromkeys(
        (
            *(".gitlab-ci.yml", ".travis.yml", ".circleci", ".buildkite", ".woodpecker"),
            *(".woodpecker.yml", ".drone.yml", "Jenkinsfile", "azure-pipelines.yml"),
            *("bitbucket-pipelines.yml", "appveyor.yml", ".appveyor.yml", ".cirrus.yml"),
            *("azure-pipelines.yaml", ".woodpecker.yaml", ".semaphore", ".gitpod.yml"),
            *(".drone.jsonnet", ".drone.star", ".cirrus.star"),
        ),
        _CI,
    ),
    **dict.fromkeys(
        (
            *(".husky", ".githooks", ".pre-commit-config.yaml", "lefthook.yml", ".lefthook.yml"),
            *("lefthook-local.yml", ".overcommit.yml", ".git-hooks", ".lefthook"),
            *("lefthook.yaml", ".lefthook.yaml", "lefthook.toml", ".lefthook.toml"),
            *("lefthook.json", ".lefthook.json", "lefthook-local.yaml", ".lefthook-local.yml"),
            *("simple-git-hooks.json", ".simple-git-hooks.json", ".lefthook-local"),
        ),
        _HOOKS,
    ),
    **dict.fromkeys((".npmrc", ".yarnrc", ".yarnrc.yml", ".pnpmfile.cjs", ".gemrc"), _PACKAGES),
    **dict.fromkeys(
        (
            *(".gdbinit", ".lldbinit", ".pdbrc", ".pryrc", ".irbrc", ".Rprofile", ".perldb"),
            *(".iex.exs", ".ghci", ".ocamlinit", ".erlang", ".octaverc", ".psysh.php"),
        ),
        _DEBUGGER,
    ),
}
"""A file or folder of such a name -> what is in it."""

PARTS: Mapping[str, Mapping[str, str]] = {
    ".github": dict.fromkeys(("workflows", "actions"), _CI),
    ".gitea": dict.fromkeys(("workflows", "actions"), _CI),
    ".forgejo": dict.fromkeys(("workflows", "actions"), _CI),
    ".cargo": dict.fromkeys(("config", "config.toml"), _PACKAGES),
    ".bundle": {"config": _PACKAGES},
    ".claude": dict.fromkeys(("settings.json", "settings.local.json", "hooks"), _AGENT),
    ".codex": dict.fromkeys(("config.toml", "hooks.json"), _AGENT),
    ".hg": dict.fromkeys(("hgrc", "hgrc-not-shared"), _MERCURIAL),
    ".cursor": dict.fromkeys(("mcp.json", "hooks.json", "environment.json"), _AGENT),
    ".gemini": {"settings.json": _AGENT},
    ".qwen": {"settings.json": _AGENT},
    ".factory": dict.fromkeys(("settings.json", "mcp.json", "hooks"), _AGENT),
    ".junie": {"mcp": _AGENT},
    **{name: {"mcp.json": _AGENT} for name in (".roo", ".kilocode", ".amazonq", ".trae")},
    ".config": {
        **dict.fromkeys(("fish", "autostart", "environment.d", "systemd"), _SHELL),
        **dict.fromkeys(("mise.toml", "mise", "direnv"), _ENTER),
        "nvim": _EDITOR,
        "lefthook.yml": _HOOKS,
    },
    ".ssh": dict.fromkeys(("rc", "config"), _SHELL),
}
"""The name of a folder -> names in it, as in NAMES."""

JOURNAL = "journal.jsonl"
"""The record of a run, where tools can write: `resume` and other verbs read it."""
RECORD = "the record of a run, which `resume` goes on with"

OWNED = frozenset(
    (
        *("node_modules", "site-packages", "dist-packages", "bower_components", "vendor", "Pods"),
        *(".venv", "venv", ".tox", ".nox", ".gradle", ".terraform", "__pypackages__"),
    )
)
"""Folders that package managers fill and remove. What is mounted in one cannot be removed, so
nothing in it is protected. Packages bring many files of these names; only repositories in there are
told. The names decide, and no file in them: a tool could put one anywhere."""

BUILT = frozenset(("build", "target", "dist", "out", "_build"))
"""Folders that build tools fill and remove. Nothing in them is protected, and all is told."""

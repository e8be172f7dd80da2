"""The system's own folders: `/usr` and its like, and `/etc` without its secrets.

Programs of `/usr` read their settings in `/etc`, and Debian's link there. So `/etc` is shown, but
for three kinds of entries: those that hold secrets by their name, those that not every account of
the host may read, and those of which the sandbox has its own (accounts, host names).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from sandbox_agent_sandbox.plan import File, Mask, MaskedFor
from sandbox_agent_sandbox.policy.paths import Followed, is_inside_any, read_text
from sandbox_agent_sandbox.policy.view import KERNEL_FOLDERS, View

_SYSTEM = (
    *("usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "nix/store"),
    # What /usr and /etc link to: formats of TeX, dictionaries, fonts of Ghostscript, certificates.
    *("var/lib/texmf", "var/lib/aspell", "var/lib/dictionaries-common", "var/lib/ghostscript"),
    *("var/lib/ca-certificates", "var/lib/gems"),
    # Which packages are installed: else `dpkg -l` and `rpm -q` would find none.
    *("var/lib/dpkg", "var/lib/rpm"),
)

_SECRETS = (
    *("shadow", "shadow-", "gshadow", "gshadow-", "passwd-", "group-", "sudoers", "sudoers.d"),
    *("security/opasswd", "environment", "fstab", "crypttab", "machine-id"),
    *(f"ssh/ssh_host_{kind}_key" for kind in ("rsa", "dsa", "ecdsa", "ed25519")),
    *("ssl/private", "pki/tls/private", "pki/entitlement", "letsencrypt", "krb5.keytab"),
    *("NetworkManager", "netplan", "wpa_supplicant", "wireguard", "openvpn", "ppp", "swanctl"),
    *("ipsec.secrets", "ipsec.d", "apt/auth.conf", "apt/auth.conf.d", "docker", "kubernetes"),
    *("rancher", "gitlab", "gitlab-runner", "ansible", "salt", "puppetlabs", "vault.d"),
    *("mysql/debian.cnf", "redis", "rabbitmq", "grafana", "msmtprc", "postfix/sasl_passwd"),
    *("exim4/passwd.client", "samba/smbpasswd", "cifs-credentials", "davfs2", "boto.cfg"),
)
"""Entries of /etc that hold secrets, or that say what this machine is and what it is attached to.
Many of them can be read by root alone, so neither tools of root's can read them; but an account of
the administrators' group may."""

_RESOLVER = ("resolv.conf", "gai.conf", "host.conf", "networks")
"""Shown only with the host's network."""

_NEEDED = ("passwd", "group", "hosts")
_OWN = (*_NEEDED, "hostname")
"""The sandbox has its own."""

HOST_NAME = "sandbox"
"""The host name inside."""


def show_system(view: View, network: str) -> None:
    """Add the system's folders."""
    root = view.facts.root
    for name in _SYSTEM:
        if (path := root / name).exists():
            view.add_unseen(path)
    _show_etc(view, str(root / "etc"), network)


def add_own_files(view: View, network: str, user: str, home: str) -> None:
    """Add the sandbox's own files in /etc. user, home: of the account inside."""
    etc = view.facts.root / "etc"
    uid, gid = view.identity.inside_uid, view.identity.inside_gid
    accounts = f"{user}:x:{uid}:{gid}:{user}:{home}:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n"
    names = f"127.0.1.1 {HOST_NAME}\n"
    if network == "none":
        names = f"127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n{names}"
    elif not view.shows(str(etc)):
        # The host's file is missing or a link. So it cannot be covered, and is copied here.
        names = f"{read_text(f'{etc}/hosts')}\n{names}"
    view.files += [
        File(f"{etc}/passwd", accounts),
        File(f"{etc}/group", f"{user}:x:{gid}:\nnogroup:x:65534:\n"),
        File(f"{etc}/hosts", names, appended=network == "host" and view.shows(str(etc))),
    ]
    if (etc / "hostname").is_file():
        view.files.append(File(f"{etc}/hostname", f"{HOST_NAME}\n"))


def _show_etc(view: View, etc: str, network: str) -> None:
    entries = {entry.name: entry for entry in _entries(etc)}
    hidden = _SECRETS if network == "host" else (*_SECRETS, *_RESOLVER)
    unreadable = [name for name, entry in entries.items() if not _for_everybody(entry)]
    # A file of the sandbox's own is mounted over the host's. Where that is missing, or is a link,
    # there is nothing to mount it over: then each entry is shown by itself.
    own = {name for name in _OWN if name in entries or name in _NEEDED}
    if all(name in entries and entries[name].is_file(follow_symlinks=False) for name in own):
        view.add(etc)
    else:
        apart = {*_OWN, *hidden, *unreadable}
        for name in sorted(entries.keys() - apart):
            path = f"{etc}/{name}"
            if is_inside_any(view.follow(path).real, KERNEL_FOLDERS):
                view.keep_links(path, Followed("", {path: os.readlink(path)}))  # /etc/mtab
            elif os.path.exists(path):
                view.add(path)
    for name in dict.fromkeys((*hidden, *unreadable)):
        path = f"{etc}/{name}"
        known = name.partition("/")[0] in entries and name not in _OWN
        if known and os.path.lexists(path) and view.leads_to(path) == path:
            secret = name not in _RESOLVER  # without a network, nobody minds that it is empty
            folder = os.path.isdir(path)
            reason = MaskedFor.SECRETS if secret else MaskedFor.NO_NETWORK
            view.masks.append(Mask(path, folder, secret and not folder, reason))
    if network == "host":
        for name in _RESOLVER:
            # Often a link to /run.
            if name in entries and os.path.exists(f"{etc}/{name}"):
                view.add_unseen(f"{etc}/{name}")


def _entries(folder: str) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            yield from entries
    except OSError:
        return


def _for_everybody(entry: os.DirEntry[str]) -> bool:
    """Whether every account of the host may read an entry. A link says nothing about that."""
    try:
        mode = entry.stat(follow_symlinks=False).st_mode
    except OSError:
        return False
    if stat.S_ISLNK(mode):
        return True
    needed = stat.S_IROTH | stat.S_IXOTH if stat.S_ISDIR(mode) else stat.S_IROTH
    return mode & needed == needed

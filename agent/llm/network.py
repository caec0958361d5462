"""The way to a model's server: which address, through which proxy, with whose certificates, with which key.

Everything that an option or the environment says of it is checked before anything is sent. An address of this
machine or of a private network is reached directly, whatever proxies the environment names: images of a slide
and keys go where the user said, and nowhere else.
"""

from __future__ import annotations

import ipaddress
import os
import re
import socket
import ssl
import urllib.request
from collections.abc import Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

from core_model.errors import GiantError, UsageError

EXAMPLE = "It looks like http://127.0.0.1:8000/v1"
LONGEST = 86_400.0
"""Seconds that one attempt may be given: a day."""

_PRIVATE = tuple(
    ipaddress.ip_network(net)
    for net in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")
)
_LOCAL = (".local", ".localhost", ".localdomain", ".internal", ".lan", ".home.arpa")
_PROXIES = ("http", "https", "socks5", "socks5h")


def checked_server(url: str, source: str, keys: Sequence[str] = ()) -> str:
    """The address of a server, as an option or a variable of the environment (`source`) gives it.

    It is written into run.json, so it may hold nothing secret. Raises `UsageError`, which quotes nothing that
    may be a password.
    """
    try:
        parts = urlsplit(url.strip())
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        sound, parts = False, urlsplit("")
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise UsageError(
            f"{source} holds more than an address: a user name, a password or a query",
            fix=f"Give scheme, host and path alone; put a key in the environment ({' or '.join(keys)})"
            if keys
            else "Give scheme, host and path alone; keys come from the environment",
        )
    if not sound or re.search(r"[\s\x00-\x1f\x7f]", url.strip()):
        raise UsageError(f"{source} is not an http address", fix=EXAMPLE)
    return url.strip()


def checked_key(key: str, variable: str) -> str:
    """A key that a header can hold. Raises `UsageError` that does not quote it."""
    if not re.fullmatch(r"[\x20-\x7e]+", key):
        kind = "a line break" if re.search(r"[\r\n]", key) else "a character that is not plain ASCII"
        raise UsageError(f"the key in {variable} holds {kind}", fix=f"Set {variable} to the key alone")
    return key


TIMEOUT, TIMEOUT_VARIABLE = 300.0, "GIANT_TIMEOUT"
"""Seconds for one attempt of a call, and the variable of the environment that gives others."""


def checked_timeout(seconds: float | None) -> float:
    """Seconds for one attempt: an option, else the variable, else the default. Raises `UsageError`."""
    source, text = "--timeout", str(seconds)
    if seconds is None:
        source, text = TIMEOUT_VARIABLE, os.environ.get(TIMEOUT_VARIABLE, "").strip()
        if not text:
            return TIMEOUT
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= LONGEST:
        raise UsageError(
            f"{source} is {text}, and not a number of seconds above 0", fix="Give seconds, e.g. 900"
        )
    return value


def is_private(host: str) -> bool:
    """Whether a host is this machine, or one of a private network, by its name or address alone."""
    name = host.strip("[]").rstrip(".").casefold().partition("%")[0]
    address = _address(name)
    if address is None:
        return "." not in name or name.endswith(_LOCAL)
    address = getattr(address, "ipv4_mapped", None) or address
    if address.is_loopback or address.is_link_local or address.is_unspecified:
        return True
    return any(address in net for net in _PRIVATE if net.version == address.version)


def proxy_to(url: str) -> str | None:
    """The proxy on the way to a server: what the environment says, and none to a private address.

    Raises `GiantError` where that proxy cannot be used.
    """
    parts = urlsplit(url)
    host, proxies = parts.hostname or "", urllib.request.getproxies_environment()
    if is_private(host) or _is_excepted(host, parts.port, proxies):
        return None
    for kind in (parts.scheme, "all"):
        if proxies.get(kind):
            return _checked_proxy(proxies[kind], _variable(f"{kind}_proxy"))
    return None


def keep_direct(url: str) -> None:
    """Have libraries that find their proxies themselves reach a private server directly too.

    Raises `GiantError` where the environment names a proxy that they would fall over.
    """
    host = (urlsplit(url).hostname or "").strip("[]")
    for kind in ("http", "https", "all"):
        proxy = urllib.request.getproxies_environment().get(kind)
        if proxy:
            _checked_proxy(proxy, _variable(f"{kind}_proxy"))
    if is_private(host):
        for variable in ("NO_PROXY", "no_proxy"):
            hosts = [part.strip() for part in os.environ.get(variable, "").split(",") if part.strip()]
            if host not in hosts:
                os.environ[variable] = ",".join([*hosts, host])


def certificates() -> ssl.SSLContext:
    """Whose certificates are trusted: those of SSL_CERT_FILE or SSL_CERT_DIR, else certifi's.

    Raises `GiantError` where a variable names what is not there or holds none.
    """
    import certifi

    for variable, option, exists in (
        ("SSL_CERT_FILE", "cafile", Path.is_file),
        ("SSL_CERT_DIR", "capath", Path.is_dir),
    ):
        place = os.environ.get(variable, "")
        if not place:
            continue
        fix = f"Correct {variable}, or unset it"
        if not exists(Path(place)):
            raise GiantError(
                f"{variable} names no {'file' if option == 'cafile' else 'folder'}", where=place, fix=fix
            )
        try:
            return ssl.create_default_context(**{option: place})  # type: ignore[arg-type]
        except (OSError, ssl.SSLError) as error:
            what = f"{variable} holds no certificates that can be read ({error.strerror or error})"
            raise GiantError(what, where=place, fix=fix) from error
    return ssl.create_default_context(cafile=certifi.where())


def _checked_proxy(proxy: str, variable: str) -> str:
    url = proxy if "://" in proxy else f"http://{proxy}"
    try:
        parts = urlsplit(url)
        sound = bool(parts.hostname) and parts.port != 0
    except ValueError:
        sound, parts = False, urlsplit(url.partition("@")[0].partition("[")[0])
    fix = f"Correct {variable}, or name the server in NO_PROXY"
    if parts.scheme not in _PROXIES:
        raise GiantError(f"{variable} names a proxy of the unknown scheme '{parts.scheme}'", fix=fix)
    if not sound:
        raise GiantError(f"{variable} names no proxy: it is not an address", fix=fix)
    if parts.scheme.startswith("socks") and find_spec("socksio") is None:
        raise GiantError(
            f"{variable} names a SOCKS proxy, which needs the package socksio",
            fix=f"pip install socksio, or unset {variable}",
        )
    return url


def _variable(name: str) -> str:
    """How the user wrote a variable: in small letters, which count first, or in capitals."""
    return name if os.environ.get(name) else name.upper()


def _is_excepted(host: str, port: int | None, proxies: dict[str, str]) -> bool:
    """Whether NO_PROXY names the host: by name, as a domain, or as a network (10.0.0.0/8)."""
    place = f"{host}:{port}" if port else host
    if urllib.request.proxy_bypass_environment(place, proxies):  # type: ignore[attr-defined]
        return True
    address = _address(host.strip("[]"))
    for part in proxies.get("no", "").split(","):
        if part.strip() == "*":
            return True
        with suppress(ValueError):
            network = ipaddress.ip_network(part.strip(), strict=False)
            if address is not None and address.version == network.version and address in network:
                return True
    return False


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address that a host is, also in the odd forms that the system takes (127.1, 0x7f000001)."""
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        pass
    if re.fullmatch(r"[0-9a-fx.]+", name) and name[:1].isdigit():
        with suppress(OSError):
            return ipaddress.IPv4Address(socket.inet_aton(name))
    return None

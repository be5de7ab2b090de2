"""The knobs of access: who may connect, with which key, over which transport, and where quotas are remembered."""

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, CliToggleFlag, NoDecode, SettingsConfigDict

_HOST = r"([a-z0-9_-]+(\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\])(:\d{1,5})?"
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


def _split(value: object) -> object:
    """Return the items of a list with commas."""
    return list(filter(None, map(str.strip, value.split(",")))) if isinstance(value, str) else value


def _check_host(value: str) -> str:
    if not re.fullmatch(_HOST, value.lower()):
        raise ValueError("a host's name or address, with or without its port, such as models.example or [::1]:8000")
    return value.lower()


def _check_origin(value: str) -> str:
    scheme, separator, host = value.lower().partition("://")
    if scheme not in _DEFAULT_PORTS or not separator or not re.fullmatch(_HOST, host):
        raise ValueError(
            "an origin such as https://app.example or http://localhost:5173: scheme, host and port, nothing behind; "
            "'*' and 'null' would be every page there is"
        )
    return f"{scheme}://{host.removesuffix(_DEFAULT_PORTS[scheme])}"


Hosts = Annotated[tuple[Annotated[str, AfterValidator(_check_host)], ...], NoDecode, BeforeValidator(_split)]
Origins = Annotated[tuple[Annotated[str, AfterValidator(_check_origin)], ...], NoDecode, BeforeValidator(_split)]


class AccessSettings(BaseSettings):
    """What `Settings` says of callers.

    Units: `*_s` are seconds.
    Raises: pydantic.ValidationError where the server would be open to strangers, or closed to everyone.
    """

    model_config = SettingsConfigDict(use_attribute_docstrings=True)

    host: str = "127.0.0.1"
    """Address to listen on. The default answers this machine only; 0.0.0.0 answers everyone who can reach it, and
    needs `require_auth` with keys, or `insecure`."""

    require_auth: CliToggleFlag[bool] = False
    """Refuse calls without an API key. Without it, callers on this machine may ask without one."""

    insecure: CliToggleFlag[bool] = False
    """Answer anyone who can reach a public address, without keys. Only behind something that asks for them itself."""

    tenants_file: Path | None = None
    """TOML file of tenants, the hashes of their API keys and their limits: docs/security.md describes it. It is read
    again when it changes, so keys rotate without a restart."""

    tenants_grace_s: Annotated[float, Field(gt=0)] = 300.0
    """How long the last good tenants file is believed while what is there cannot be read; after that its keys are
    refused. `inf` believes it for ever: where no keys are worse than old ones."""

    api_keys: SecretStr | None = Field(None, repr=False)
    """Hash lines of more keys, as TENANT=LINE,TENANT=LINE: for environments that hand over secrets as variables.
    `python -m server.tenancy` makes both."""

    admin_port: Annotated[int, Field(ge=0, le=65535)] | None = None
    """HTTP port of its own for what only admins may do. Set it to keep that off the network that callers use."""

    admin_host: str = "127.0.0.1"
    """Address of `admin_port`."""

    allowed_host: Hosts = ()
    """Names under which callers reach a server that trusts them for being on its machine, as NAME,NAME:PORT; localhost
    and loopback addresses always are. Set it to what a reverse proxy passes on as Host. Other names are refused there,
    for a web page could give itself one; where strangers are told apart anyway, only if this is set."""

    cors_origin: Origins = ()
    """Web pages that may call this server from a browser, by their origins, as https://app.example,http://localhost:5173.
    Each may do what its visitor may. Without it only this server's own pages can."""

    tls_cert: Path | None = None
    """PEM file of the certificate chain for HTTPS and gRPC over TLS. Set it where no proxy does it for you."""

    tls_key: Path | None = None
    """PEM file of the certificate's private key."""

    tls_client_ca: Path | None = None
    """PEM file of the authorities whose clients may connect; no others may then."""

    quota_store: Annotated[str, Field(pattern=r"^(memory|sqlite:.+|rediss?://.+)$", repr=False)] = (
        "sqlite:adatape-quota.sqlite3"
    )
    """Where usage and quotas outlive a restart: `sqlite:PATH`, `redis://HOST:PORT/DB` to share them between several
    servers, or `memory` to forget them. Opened only where there are tenants."""

    quota_sync_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    """How often usage is written there and the tenants file is looked at: what a crash may lose, and how long several
    servers may not know of each other's spending."""

    @model_validator(mode="after")
    def _is_neither_open_nor_closed(self) -> Self:
        if self.require_auth and self.insecure:
            raise ValueError("require_auth; got insecure beside it; expected one of the two")
        if self.require_auth and not self.has_keys:
            raise ValueError("require_auth; got no keys; expected tenants_file or api_keys, else nobody could get in")
        if self.is_public and not (self.require_auth or self.insecure):
            raise ValueError(
                f"host; got {self.host}, which others can reach; expected require_auth with keys, or insecure if "
                "something in front of this server decides who may ask"
            )
        return self

    @model_validator(mode="after")
    def _has_all_of_tls(self) -> Self:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("tls_cert and tls_key; got one of the two; expected both or neither")
        if self.tls_client_ca is not None and self.tls_cert is None:
            raise ValueError("tls_client_ca; got no tls_cert beside it; expected tls_cert and tls_key too")
        return self

    @property
    def has_keys(self) -> bool:
        return self.tenants_file is not None or self.api_keys is not None

    @property
    def asks_who_calls(self) -> bool:
        """Say whether callers are told apart; otherwise everyone may do everything and nothing is counted by caller."""
        return self.has_keys or self.is_public or self.admin_port is not None

    @property
    def trusts_machine(self) -> bool:
        """Say whether being on this machine is enough to ask, and without any keys to be an admin."""
        return not (self.require_auth or self.is_public)

    @property
    def is_public(self) -> bool:
        """Say whether anyone but this machine can connect, as far as the addresses tell."""
        return not is_loopback(self.host) or (self.admin_port is not None and not is_loopback(self.admin_host))


def is_loopback(host: str) -> bool:
    """Say whether an address answers this machine only; a name other than localhost may lead anywhere."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"

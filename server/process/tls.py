"""The TLS certificate of the HTTP and gRPC ports. When its files change, new connections use the new certificate.

New files are tried before they are used, so a chain without its key, or an incomplete file, changes nothing.
"""

import asyncio
import logging
import ssl
from pathlib import Path
from typing import NamedTuple, NoReturn

import grpc

from server.host import files
from server.metrics import Metrics
from server.process.background_tasks import BackgroundTask
from server.settings import Settings

CHECK_EVERY_S = 1.0
PEM_BYTES = 1024 * 1024
_log = logging.getLogger("adatape.tls")


class CertificateFiles(NamedTuple):
    """The paths of the certificate chain, its key and the clients' authorities; the last may be None."""

    chain: Path
    key: Path
    authorities: Path | None

    def read(self) -> "CertificateContents":
        """Read all files.

        Raises: OSError.
        """
        authorities = None if self.authorities is None else files.read(self.authorities, PEM_BYTES)
        return CertificateContents(files.read(self.chain, PEM_BYTES), files.read(self.key, PEM_BYTES), authorities)

    def build(self) -> ssl.SSLContext:
        """Return the context for HTTPS. Call `read` first, which refuses other than regular files.

        Raises: OSError; ssl.SSLError; ValueError for a key that needs a pass phrase.
        """
        return files.run_within(files.READ_S, ("build", self), self._build)

    def _build(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self.chain, self.key, password=_no_pass_phrase)
        if self.authorities is not None:
            context.load_verify_locations(self.authorities)
            context.verify_mode = ssl.CERT_REQUIRED
        return context


class CertificateContents(NamedTuple):
    """The contents of the certificate files, as PEM."""

    chain: bytes
    key: bytes
    authorities: bytes | None

    def for_grpc(self) -> grpc.ServerCertificateConfiguration:
        return grpc.ssl_server_certificate_configuration([(self.key, self.chain)], self.authorities)


class Certificates:
    """The newest certificate files that are valid. `context` is for HTTPS and gives each new connection the newest."""

    def __init__(self, places: CertificateFiles, metrics: Metrics) -> None:
        """Read the files.

        Raises: ValueError if they are invalid.
        """
        self._files = places
        self._reads = metrics.tls_reads
        self._reads.declare((result,) for result in ("ok", "refused"))
        try:
            self.contents = places.read()
            self.context = self._newest = places.build()
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            got = f"{places.chain} and {places.key}: {error}"
            raise ValueError(f"TLS files; got {got}; expected a PEM certificate and its own key") from error
        self._seen: CertificateContents | str = self.contents
        metrics.tls_last_read_ok.watch(lambda: float(self._seen == self.contents))
        self.context.sni_callback = self._use_newest
        self._watch = BackgroundTask("certificates", self.refresh, CHECK_EVERY_S, metrics)

    def start(self) -> None:
        """Begin to check the files for changes."""
        self._watch.start()

    def reload(self) -> None:
        """Check the files for changes now."""
        self._watch.run_soon()

    async def stop(self) -> None:
        """Stop checking the files."""
        await self._watch.stop()

    async def refresh(self) -> None:
        """Use the files if they have changed. Invalid files change nothing, and are logged once."""
        found = await asyncio.to_thread(self._check)
        if found is None:
            return
        self._seen, outcome = found
        if isinstance(self._seen, str) or isinstance(outcome, str):
            self._reads.add(1, "refused")
            _log.error("tls_refused reason=%r", outcome)
            return
        self.contents, self._newest = self._seen, outcome
        self._reads.add(1, "ok")
        _log.info("tls_read chain=%s", self._files.chain)

    def credentials(self) -> grpc.ServerCredentials:
        """Return the credentials for gRPC, which asks at each handshake whether there is a new certificate."""
        current = self.contents

        def fetch() -> grpc.ServerCertificateConfiguration | None:
            nonlocal current
            if self.contents == current:
                return None
            current = self.contents
            return current.for_grpc()

        is_mutual = self._files.authorities is not None
        return grpc.dynamic_ssl_server_credentials(current.for_grpc(), fetch, require_client_authentication=is_mutual)

    def _check(self) -> tuple[CertificateContents | str, ssl.SSLContext | str] | None:
        """Return the new contents and their context, or what is wrong; None if they are unchanged or being written."""
        seen = self._read()
        if seen == self._seen:
            return None
        outcome: ssl.SSLContext | str
        try:
            outcome = seen if isinstance(seen, str) else self._files.build()
        except (OSError, ValueError) as error:
            outcome = str(error)
        return (seen, outcome) if self._read() == seen else None

    def _read(self) -> CertificateContents | str:
        """Return the contents of the files, or why they cannot be read."""
        try:
            return self._files.read()
        except OSError as error:
            return str(error)

    def _use_newest(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        """Let a new connection use the newest context; called for each one, with or without a server name."""
        connection.context = self._newest


def read_certificates(settings: Settings, metrics: Metrics) -> Certificates | None:
    """Return the certificates that the settings name, None for plain ports.

    Raises: ValueError if they are invalid.
    """
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    return Certificates(CertificateFiles(settings.tls_cert, settings.tls_key, settings.tls_client_ca), metrics)


def _no_pass_phrase() -> NoReturn:
    raise ValueError("the key wants a pass phrase, and nobody is there to give it")

"""The certificate of both ports, and the one that takes its place: files that change count for new connections.

What is read is tried before it is used, so a chain without its key, or half of either, changes nothing.
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

LOOK_S = 1.0
PEM_BYTES = 1024 * 1024
_log = logging.getLogger("adatape.tls")


class CertificateFiles(NamedTuple):
    """Where the certificate chain, its key and the clients' authorities lie; the last may be missing."""

    chain: Path
    key: Path
    authorities: Path | None

    def read(self) -> "Identity":
        """Raise OSError if one cannot be read."""
        authorities = None if self.authorities is None else files.read(self.authorities, PEM_BYTES)
        return Identity(files.read(self.chain, PEM_BYTES), files.read(self.key, PEM_BYTES), authorities)

    def build(self) -> ssl.SSLContext:
        """Return what HTTPS needs; to be called once they could be read, for OpenSSL opens whatever is there.

        Raises: OSError; ssl.SSLError; ValueError for a key that wants a pass phrase.
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


class Identity(NamedTuple):
    """What the files hold, as PEM."""

    chain: bytes
    key: bytes
    authorities: bytes | None

    def for_grpc(self) -> grpc.ServerCertificateConfiguration:
        return grpc.ssl_server_certificate_configuration([(self.key, self.chain)], self.authorities)


class Certificates:
    """The newest identity that is whole. `context` is for HTTPS and hands each new connection over to it."""

    def __init__(self, places: CertificateFiles, metrics: Metrics) -> None:
        """Read the files.

        Raises: ValueError where they are of no use.
        """
        self._files = places
        self._reads = metrics.tls_reads
        self._reads.declare((result,) for result in ("ok", "refused"))
        try:
            self.identity = places.read()
            self.context = self._newest = places.build()
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            got = f"{places.chain} and {places.key}: {error}"
            raise ValueError(f"TLS files; got {got}; expected a PEM certificate and its own key") from error
        self._seen: Identity | str = self.identity
        metrics.tls_last_read_ok.watch(lambda: float(self._seen == self.identity))
        self.context.sni_callback = self._hand_over
        self._watch = BackgroundTask("certificates", self.refresh, LOOK_S, metrics)

    def start(self) -> None:
        """Look for changes from now on."""
        self._watch.start()

    def reload(self) -> None:
        """Look for changes now."""
        self._watch.run_soon()

    async def stop(self) -> None:
        """Look no more."""
        await self._watch.stop()

    async def refresh(self) -> None:
        """Take on what the files hold if they have changed; what is of no use changes nothing and is logged once."""
        found = await asyncio.to_thread(self._look)
        if found is None:
            return
        self._seen, outcome = found
        if isinstance(self._seen, str) or isinstance(outcome, str):
            self._reads.add(1, "refused")
            _log.error("tls_refused reason=%r", outcome)
            return
        self.identity, self._newest = self._seen, outcome
        self._reads.add(1, "ok")
        _log.info("tls_read chain=%s", self._files.chain)

    def credentials(self) -> grpc.ServerCredentials:
        """Return what gRPC needs; it asks at each handshake whether there is something new."""
        told = self.identity

        def fetch() -> grpc.ServerCertificateConfiguration | None:
            nonlocal told
            if self.identity == told:
                return None
            told = self.identity
            return told.for_grpc()

        is_mutual = self._files.authorities is not None
        return grpc.dynamic_ssl_server_credentials(told.for_grpc(), fetch, require_client_authentication=is_mutual)

    def _look(self) -> tuple[Identity | str, ssl.SSLContext | str] | None:
        """Return what the files hold now and what comes of it; None where they are as they were, or being written."""
        seen = self._read()
        if seen == self._seen:
            return None
        outcome: ssl.SSLContext | str
        try:
            outcome = seen if isinstance(seen, str) else self._files.build()
        except (OSError, ValueError) as error:
            outcome = str(error)
        return (seen, outcome) if self._read() == seen else None

    def _read(self) -> Identity | str:
        """Return what the files hold, or why they cannot be read."""
        try:
            return self._files.read()
        except OSError as error:
            return str(error)

    def _hand_over(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        """Let a connection that begins use the newest context; it is called whether it names a server or not."""
        connection.context = self._newest


def read_certificates(settings: Settings, metrics: Metrics) -> Certificates | None:
    """Return the certificates that the settings name, None for plain ports.

    Raises: ValueError where they are of no use.
    """
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    return Certificates(CertificateFiles(settings.tls_cert, settings.tls_key, settings.tls_client_ca), metrics)


def _no_pass_phrase() -> NoReturn:
    raise ValueError("the key wants a pass phrase, and nobody is there to give it")

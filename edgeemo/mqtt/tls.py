"""The encrypted connection: whom we trust, and who we are."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from edgeemo.errors import InputError


@dataclass(frozen=True)
class Tls:
    """Files for a connection with ``mqtts://``; the broker's certificate and name are always verified.

    Attributes:
        ca: certificates that are trusted, PEM; None for those of the system.
        certificate: our own, PEM, where the broker asks for one; its key may be in the same file.
        key: the key of our own certificate, PEM, without a passphrase.
    """

    ca: str | Path | None = None
    certificate: str | Path | None = None
    key: str | Path | None = None

    def context(self) -> ssl.SSLContext:
        """Returns what the connection is made with: TLS 1.2 or newer.

        Raises:
            InputError: a file is missing or not what it should be, or a key without a certificate.
        """
        if self.key and not self.certificate:
            raise InputError(f"the key {self.key} belongs to a certificate; give that one too")
        for path in (self.ca, self.certificate, self.key):
            if path is None:
                continue
            try:
                Path(path).open("rb").close()
            except OSError as reason:
                raise InputError(f"{path} cannot be read: {reason.strerror or reason}") from None
        try:
            context = ssl.create_default_context(cafile=self.ca)
        except (ssl.SSLError, OSError) as reason:
            raise InputError(f"{self.ca} holds no certificates in PEM form: {reason}") from None
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.sslsocket_class = _TidySocket
        if self.certificate:
            try:
                # A key with a passphrase would ask at the terminal, for ever where there is none.
                context.load_cert_chain(self.certificate, self.key, password=_no_passphrase)
            except (ssl.SSLError, OSError, ValueError) as reason:
                raise InputError(
                    f"{self.certificate} and {self.key or 'the key in it'} are no certificate and its key "
                    f"in PEM form without a passphrase: {reason}"
                ) from None
        return context


class _TidySocket(ssl.SSLSocket):
    """Closes itself where the handshake fails, because paho-mqtt would leave it open."""

    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
        except BaseException:
            self.close()
            raise


def _no_passphrase() -> str:
    raise ValueError("the key has a passphrase")

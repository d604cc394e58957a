"""Which certificates a TLS connection to the backend is checked against, and which one is shown."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping

import truststore

from ..settings.delivery import DestinationSettings
from ..settings.shown import quoted

_BUNDLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
_OPENSSL = ("SSL_CERT_FILE", "SSL_CERT_DIR")


class CertificateError(OSError):
    """A file of certificates or keys can't be used; the text names the setting or variable that named it."""


def tls_context(config: DestinationSettings, environ: Mapping[str, str] = os.environ) -> ssl.SSLContext:
    """Return the TLS settings of connections to the backend.

    The backend's certificate is checked against the setting's file; else what
    ``REQUESTS_CA_BUNDLE`` or ``CURL_CA_BUNDLE`` name (a file or a directory);
    else what ``SSL_CERT_FILE`` and ``SSL_CERT_DIR`` name, as OpenSSL
    understands them; else the system's store. Files are read at each call,
    so that renewed ones come into force with the next connection.

    Raises:
        CertificateError: a file does not exist, or is no PEM file.
    """
    if config.certificate:
        context = _trusting(config.certificate, f"{config.CONNECTION}CERTIFICATE")
    elif bundle := next((name for name in _BUNDLES if environ.get(name)), None):
        context = _trusting(environ[bundle], bundle)
    elif named := [name for name in _OPENSSL if environ.get(name)]:
        for name in named:
            if not any(map(os.path.exists, environ[name].split(os.pathsep))):
                # OpenSSL would pass over it without a word, and then trust nobody.
                raise CertificateError(f"{name} names what does not exist: {quoted(environ[name])}")
        context = ssl.create_default_context()
    else:
        context = truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if config.client_certificate:
        try:
            # An empty password makes an encrypted key an error; without one OpenSSL would ask at the terminal.
            context.load_cert_chain(config.client_certificate, config.client_key, "")
        except OSError as error:
            names = f"{config.CONNECTION}CLIENT_CERTIFICATE and {config.CONNECTION}CLIENT_KEY"
            raise CertificateError(
                f"{names} can't be used ({error.strerror or error}); they must be PEM files without a password"
            ) from None
    return context


def _trusting(path: str, name: str) -> ssl.SSLContext:
    try:
        if os.path.isdir(path):
            return ssl.create_default_context(capath=path)
        return ssl.create_default_context(cafile=path)
    except OSError as error:
        raise CertificateError(
            f"{name} can't be used ({error.strerror or error}); it must be a file of PEM certificates: {quoted(path)}"
        ) from None

"""Why a TLS connection cannot be made is told as it is."""

from __future__ import annotations

import ssl
from typing import Any

import aiohttp
import pytest

from agenthub.upstream import _reason

KEY: Any = None


def expired() -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed")
    error.verify_message = "certificate has expired"
    return error


@pytest.mark.parametrize(
    "error",
    [
        aiohttp.ClientConnectorCertificateError(KEY, expired()),
        aiohttp.ClientConnectorSSLError(KEY, expired()),
    ],
)
def test_a_certificate(error: aiohttp.ClientConnectorError) -> None:
    """In OpenSSL's words, and not in those of an error of the system with the same number."""
    assert _reason(error) == "TLS failed: certificate has expired"


def test_another_failure_of_tls() -> None:
    """A server that speaks no TLS."""
    failure = ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number")
    failure.reason = "WRONG_VERSION_NUMBER"
    assert _reason(aiohttp.ClientConnectorSSLError(KEY, failure)) == "TLS failed: WRONG_VERSION_NUMBER"

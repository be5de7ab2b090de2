"""Certificates made for a test, by the openssl of the machine."""

import shutil
import subprocess
from pathlib import Path

import pytest


def write_pair(folder: Path, name: str = "localhost", *, pass_phrase: str = "") -> tuple[Path, Path]:
    """Write a certificate of 127.0.0.1 that signs itself, and its key, over what is there; return their paths."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make certificates with")
    fresh = folder / "fresh"
    fresh.mkdir()
    kind = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-days", "2")
    about = ("-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost")
    secret = ("-passout", f"pass:{pass_phrase}") if pass_phrase else ("-nodes",)
    files = ("-keyout", str(fresh / "key.pem"), "-out", str(fresh / "cert.pem"))
    subprocess.run(["openssl", "req", "-x509", *kind, *secret, *files, *about], check=True, capture_output=True)
    for made in fresh.iterdir():
        made.rename(folder / made.name)
    fresh.rmdir()
    return folder / "cert.pem", folder / "key.pem"

"""Repositories and graphs on WebDAV servers."""

from __future__ import annotations

import datetime
import ipaddress
import pathlib
import shutil
from collections.abc import Iterator

import click.testing
import pytest
import yaml
from aggregator.schemas.graphs import provenance_graph
from aggregator.storage import errors, http_connections, http_settings, opening
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from aggregator.command_line import main
from tests.helpers import dav_servers, small_runs, thinning


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dav_servers.DavServer]:
    with dav_servers.running(tmp_path_factory.mktemp("dav")) as running:
        yield running
        http_connections.idle.close()


def command(*arguments: str) -> click.testing.Result:
    return click.testing.CliRunner().invoke(main.main, list(arguments))


def files(directory: pathlib.Path) -> list[str]:
    return sorted(str(p.relative_to(directory)) for p in directory.rglob("*") if p.is_file())


@pytest.mark.parametrize("scheme", thinning.thinned(["http", "dav"], ["dav"]))
def test_a_run_from_begin_to_end(
    server: dav_servers.DavServer, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    local = small_runs.make(tmp_path / "local", 60, failed=0.1)
    run = small_runs.copy(local, tmp_path / "run")
    local.aggregate()
    assert command("ingest-graph", str(local.root), str(local.output), "--transfer", "copy").exit_code == 0
    root = server.new_root().replace("http", scheme, 1)
    behind = server.directory / root.rpartition("/")[2]
    shutil.move(run.root / "u", behind / "u")
    shutil.move(run.predicted, behind / "predicted.qg")
    config = yaml.safe_load((run.root / "butler.yaml").read_text())
    config["datastore"] |= {"root": root, "name": "FileDatastore@<butlerRoot>"}
    (run.root / "butler.yaml").write_text(yaml.safe_dump(config))
    monkeypatch.chdir(tmp_path)
    output = f"{root}/results/new/prov.qg"
    done = command("aggregate-graph", f"{root}/predicted.qg", str(run.root), "-o", output, "-j", "2")
    assert done.exit_code == 0, done.output
    with (
        provenance_graph.ProvenanceGraph(output) as remote,
        provenance_graph.ProvenanceGraph(str(local.output)) as expected,
    ):
        assert remote.fingerprint == expected.fingerprint
    assert command("show", output, "--failed").exit_code == 0
    done = command("ingest-graph", str(run.root), output)
    assert done.exit_code == 0, done.output
    assert files(behind / "u") == files(local.root / "u")
    assert files(behind / "results") == []


def test_a_server_that_only_gives_files(server: dav_servers.DavServer, tmp_path: pathlib.Path) -> None:
    run = small_runs.make(tmp_path / "run", 60)
    root = server.new_root()
    behind = server.directory / root.rpartition("/")[2]
    shutil.move(run.root / "u", behind / "u")
    config = yaml.safe_load((run.root / "butler.yaml").read_text())
    config["datastore"] |= {"root": root, "name": "FileDatastore@<butlerRoot>"}
    (run.root / "butler.yaml").write_text(yaml.safe_dump(config))
    before = files(behind)
    server.fault = lambda method, path: 0 if method in ("GET", "HEAD") else 405
    try:
        refused = command("aggregate-graph", str(run.predicted), str(run.root), "-o", f"{root}/prov.qg")
        assert refused.exit_code == 2
        assert "is no WebDAV server" in refused.output
        done = command("aggregate-graph", str(run.predicted), str(run.root), "-o", str(run.output))
        assert done.exit_code == 0, done.output
        refused = command("ingest-graph", str(run.root), str(run.output))
        assert refused.exit_code == 2
        assert "is no WebDAV server" in refused.output
    finally:
        server.fault = lambda method, path: 0
    assert files(behind) == before


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[pathlib.Path, pathlib.Path]:
    """Return a certificate of this host, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .sign(key, hashes.SHA256())
    )
    directory = tmp_path_factory.mktemp("certificate")
    paths = directory / "certificate.pem", directory / "key.pem"
    paths[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    paths[1].write_bytes(key.private_bytes(encoding, form, serialization.NoEncryption()))
    return paths


def test_tokens_go_to_trusted_servers_only(
    certificate: tuple[pathlib.Path, pathlib.Path],
    server: dav_servers.DavServer,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    token = tmp_path / "token"
    token.write_text("verysecret\n")
    monkeypatch.setenv("LSST_HTTP_AUTH_BEARER_TOKEN", str(token))
    (tmp_path / "served").mkdir()
    with dav_servers.running(tmp_path / "served", certificate) as secure:
        store = opening.open_store(secure.new_root())
        with pytest.raises(errors.RefusedError, match="others may read the token"):
            store.check()
        token.chmod(0o600)
        with pytest.raises(errors.MachineError, match="certificate can't be trusted"):
            store.check()
        monkeypatch.setenv("LSST_HTTP_CACERT_BUNDLE", str(certificate[0]))
        store.check_writeable()
        store.write("a/b", b"1", overwrite=False)
        assert store.is_there("a/b")
        assert {given for _, _, given in secure.requests} == {"Bearer verysecret"}
        http_connections.idle.close()
    server.requests.clear()
    opening.open_store(server.new_root()).check()
    assert {given for _, _, given in server.requests} == {""}


@pytest.mark.parametrize(
    ("variables", "text"),
    [
        ({"LSST_HTTP_CACERT_BUNDLE": "/nowhere"}, "can't use /nowhere"),
        ({"LSST_HTTP_AUTH_CLIENT_CERT": "/a"}, "either both or none"),
        (
            {"LSST_HTTP_AUTH_CLIENT_CERT": "/a", "LSST_HTTP_AUTH_CLIENT_KEY": "/b"},
            "can't use the certificate",
        ),
        ({"X509_USER_PROXY": "/a"}, "can't use the certificate"),
        ({"LSST_HTTP_TIMEOUT_READ": "soon"}, "number of seconds"),
    ],
)
def test_settings_that_can_not_be_used(variables: dict[str, str], text: str) -> None:
    with pytest.raises(errors.RefusedError, match=text):
        http_settings.read(True, variables)


def test_a_client_certificate(certificate: tuple[pathlib.Path, pathlib.Path]) -> None:
    names = ("LSST_HTTP_AUTH_CLIENT_CERT", "LSST_HTTP_AUTH_CLIENT_KEY")
    settings = http_settings.read(True, dict(zip(names, map(str, certificate), strict=True)))
    assert settings.tls is not None
    assert http_settings.read(False, {}).tls is None
    assert http_settings.token({"LSST_HTTP_AUTH_BEARER_TOKEN": "direct"}) == "direct"
    assert http_settings.token({}) == ""

"""Real tracking servers and databases on this machine, to be started, stopped and killed."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "pipelines.track", *words]


def project_environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT)}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def wait_until(condition: Callable[[], object], seconds: float = 180) -> None:
    """Generous, since machines that run tests are busy."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.05)


class MlflowServer:
    """`mlflow <words>` on a free port of this machine, in the working directory."""

    def __init__(self, *words: str) -> None:
        self._port = free_port()
        self.address = f"http://127.0.0.1:{self._port}"
        self._command = [sys.executable, "-m", "mlflow", *words, "--port", str(self._port)]
        self._command += ["--workers", "1"]
        self._process: subprocess.Popen | None = None
        self.log = Path("server.log").resolve()

    def start(self) -> None:
        environment = os.environ | {
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        }
        with self.log.open("a") as log:
            self._process = subprocess.Popen(
                self._command, stdout=log, stderr=log, env=environment, start_new_session=True
            )
        wait_until(self._healthy)

    def send(self, number: signal.Signals) -> None:
        """A signal to the server and its workers."""
        os.killpg(self._process.pid, number)

    def kill(self) -> None:
        self.send(signal.SIGKILL)
        self._process.wait()

    def stop(self) -> None:
        if self._process.poll() is None:
            self.send(signal.SIGCONT)
            self.send(signal.SIGTERM)
            try:
                self._process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                self.kill()

    def _healthy(self) -> bool:
        assert self._process.poll() is None, self.log.read_text()
        try:
            with urllib.request.urlopen(f"{self.address}/health", timeout=5):
                return True
        except OSError:
            return False


@contextlib.contextmanager
def mlflow_server(*words: str) -> Iterator[MlflowServer]:
    server = MlflowServer(*words)
    try:
        server.start()
        yield server
    finally:
        server.stop()


@contextlib.contextmanager
def silent_server() -> Iterator[str]:
    """An address at which connections are taken and never answered."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        yield f"http://127.0.0.1:{silent.getsockname()[1]}"


@contextlib.contextmanager
def postgres() -> Iterator[str]:
    """The URI of a database of a PostgreSQL of its own, reached by a socket in its folder."""
    initdb = max(Path("/usr/lib/postgresql").glob("*/bin/initdb"), default=None)
    if initdb is None:
        pytest.skip("no PostgreSQL here (Debian: apt install postgresql)")
    pytest.importorskip("psycopg2", reason="no psycopg2 here (pip install psycopg2-binary)")
    # It refuses to run as root, and does not reach folders that only root may enter.
    account = {"user": "postgres", "group": "postgres"} if os.geteuid() == 0 else {}
    folder = Path(tempfile.mkdtemp(prefix="postgres-", dir="/tmp"))
    if account:
        shutil.chown(folder, **account)
    try:
        create = [initdb, "--auth=trust", "--username=postgres", "--no-sync", folder / "data"]
        done = subprocess.run(create, cwd=folder, capture_output=True, text=True, **account)
        assert done.returncode == 0, done.stderr
        serve = [initdb.with_name("postgres"), "-D", folder / "data", "-k", folder]
        with (folder / "log").open("w") as log:
            server = subprocess.Popen(
                [*serve, "-c", "listen_addresses=", "-c", "fsync=off"],
                cwd=folder,
                stdout=log,
                stderr=log,
                **account,
            )
        try:
            wait_until(lambda: _answers(folder, server))
            yield f"postgresql://postgres@/postgres?host={folder}"
        finally:
            server.send_signal(signal.SIGINT)
            server.wait(timeout=60)
    finally:
        shutil.rmtree(folder)


def _answers(folder: Path, server: subprocess.Popen) -> bool:
    import psycopg2

    assert server.poll() is None, (folder / "log").read_text()
    try:
        psycopg2.connect(host=str(folder), user="postgres", dbname="postgres").close()
        return True
    except psycopg2.OperationalError:
        return False

"""An MLflow server in a process of its own, which answers over HTTP."""

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from tests.s3 import free_port


class MlflowServer:
    """An MLflow server that can be killed and started again over the same database."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen | None = None
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start, and wait until it answers."""
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)]
        store = f"sqlite:///{self._folder}/mlflow.db"
        places = ["--backend-store-uri", store, "--artifacts-destination", str(self._folder / "artifacts")]
        self._process = subprocess.Popen(
            [*command, *places, "--workers", "1"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + 150
        while not self._answers():
            assert time.monotonic() < deadline and self._process.poll() is None
            time.sleep(0.3)

    def kill(self) -> None:
        """End it without a word."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        try:
            return urllib.request.urlopen(f"{self.url}/health", timeout=5).status == 200
        except (urllib.error.URLError, OSError):
            return False

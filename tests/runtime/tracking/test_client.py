import subprocess
import sys
from pathlib import Path

from tadscale.runtime.tracking.store_lock import database_file

SCRIPT = """
import sys, time
from tadscale.runtime.tracking.client import make_client
import mlflow.store.tracking.sqlalchemy_store, mlflow.store.model_registry.sqlalchemy_store
print("ready", flush=True)
sys.stdin.readline()
client = make_client(sys.argv[1])
print(len(client.search_experiments()), len(client.search_registered_models()), flush=True)
"""


def test_a_fresh_store_that_two_processes_open_at_once_works_in_both(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SCRIPT, f"sqlite:///{tmp_path / 'mlflow.db'}"]
    pipe = subprocess.PIPE
    processes = [subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) for _ in range(2)]
    for process in processes:
        assert process.stdout and process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin
        process.stdin.write("\n")
        process.stdin.flush()
    for process in processes:
        said, errors = process.communicate(timeout=240)
        assert (process.returncode, said) == (0, "1 0\n"), errors


def test_which_stores_are_a_file() -> None:
    assert database_file("sqlite:////a/b.db") == Path("/a/b.db")
    assert database_file("sqlite+pysqlite:////a/b.db?timeout=5") == Path("/a/b.db")
    assert database_file("sqlite:///runs/b.db") == Path("runs/b.db").absolute()
    for uri in ("http://host:5000", "postgresql://host/mlflow", "sqlite:///:memory:", "sqlite://"):
        assert database_file(uri) is None

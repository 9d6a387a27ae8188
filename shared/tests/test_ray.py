"""Jobs on a real Ray cluster of two nodes on this machine, one of which is killed in the middle."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from toy_space import ALL, MICRO, TOY, register

import wsnas
from wsnas.cli import main
from wsnas.errors import WsnasError
from wsnas.evaluation import evaluate
from wsnas.executor import Executor, run_jobs
from wsnas.ground_truth import train_many
from wsnas.runs import Run
from wsnas.studies.jobs import SupernetJob, supernet_scores
from wsnas.supernet import train_supernet

os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # read on import: every node stays on 127.0.0.1
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
ray = pytest.importorskip("ray", reason="needs the extra wsnas[ray]")

JOB = """(
    __import__('time').sleep(1),
    __import__('pathlib').Path({folder!r}, '{number}-' + __import__('uuid').uuid4().hex).write_text(
        __import__('ray').get_runtime_context().get_node_id()
    ),
    {number} * {number},
)[2]"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Only this process has the toy space installed; the nodes get its code, and the core's, from here."""
    from ray.cluster_utils import Cluster

    site = tmp_path_factory.mktemp("ray") / "site"
    register(site)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(site))
        made = Cluster(
            initialize_head=True,
            head_node_args={"num_cpus": 1, "node_ip_address": "127.0.0.1", "include_dashboard": False},
        )
        yield made
        ray.shutdown()
        made.shutdown()


def test_a_lost_node_loses_nothing(cluster: Any, tmp_path: Path) -> None:
    """Every job has its result; jobs finished before the node was killed ran only once."""
    second = cluster.add_node(num_cpus=1, node_ip_address="127.0.0.1")
    cluster.wait_for_nodes()
    jobs = {JOB.format(folder=str(tmp_path), number=number): number for number in range(12)}
    found: dict[int, Any] = {}
    ran_before: set[int] = set()
    for job, result in run_jobs(eval, jobs, Executor(ray=cluster.address)):
        found[jobs[job]] = result
        if second is not None and len({path.read_text() for path in tmp_path.iterdir()}) == 2:  # both have worked
            cluster.remove_node(second, allow_graceful=False)
            second = None
            ran_before = set(found)
    assert second is None, "the second node never worked"
    assert found == {number: number * number for number in range(12)}
    times = Counter(int(path.name.partition("-")[0]) for path in tmp_path.iterdir())
    assert all(times[number] == 1 for number in ran_before)
    assert max(times.values()) <= 2
    assert sum(times.values()) <= 12 + 2  # one a node can be in flight, and one just finished


def test_the_code_travels(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The nodes run what this process would, not what is installed there, and know the spaces installed here.

    Also where the folders of data travel with it.
    """
    monkeypatch.setenv("WSNAS_DATA", "data")
    jobs = [f"__import__('{name}').__file__" for name in ("wsnas", "toy_space")]
    spaces = "__import__('wsnas.space').space.installed_spaces()"
    data = "__import__('os').environ['WSNAS_DATA']"
    found = dict(run_jobs(eval, [*jobs, spaces, data], Executor(ray=cluster.address)))
    assert all("py_modules_files" in found[job] for job in jobs), found
    assert "toy" in found[spaces]
    assert found[data] == os.path.abspath("data")


def test_a_ray_job_runs_in_the_environment_it_was_submitted_with(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The code, too: Ray refuses to merge two environments that both bring some."""
    submitted = {"runtime_env": {"env_vars": {"MINE": "yes"}}}
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", json.dumps(submitted))  # as 'ray job submit' does
    monkeypatch.setenv("WSNAS_DATA", "/data")
    jobs = [
        "__import__('os').environ['MINE']",
        "__import__('os').environ['WSNAS_DATA']",
        "__import__('wsnas').__file__",
    ]
    found = dict(run_jobs(eval, jobs, Executor(ray=cluster.address)))
    assert list(map(found.get, jobs)) == ["yes", "/data", wsnas.__file__]


def test_failures_and_a_missing_cluster(cluster: Any) -> None:
    found = dict(
        run_jobs(eval, ["1 / 0", "2", "__import__('time').sleep(60)"], Executor(ray=cluster.address, timeout=1))
    )
    assert isinstance(found["1 / 0"], ZeroDivisionError)
    assert found["2"] == 2
    assert isinstance(found["__import__('time').sleep(60)"], TimeoutError)
    with pytest.raises(WsnasError, match="no Ray cluster answers"):
        list(run_jobs(eval, ["1"], Executor(ray="127.0.0.1:1")))


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"220 mail\r\n", b""])
def test_a_port_that_is_not_rays_is_refused_at_once(answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def reply() -> None:
            connection, _ = server.accept()
            connection.recv(24)
            connection.sendall(answer)
            connection.close()

        threading.Thread(target=reply, daemon=True).start()
        started = time.monotonic()
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(WsnasError, match=r"no Ray cluster answers at '127.* \("):
            list(run_jobs(eval, ["1"], Executor(ray=address)))
        assert time.monotonic() - started < 20


@pytest.mark.parametrize(
    ("gpus", "why"),
    [(1, r"has a CPU core and 1 GPUs for a job; they have 1 CPU cores and 0 GPUs"), (1.5, "whole GPUs")],
)
def test_gpus_that_no_node_has_are_refused_at_once(cluster: Any, gpus: float, why: str) -> None:
    """The jobs would wait for a node that has them."""
    if torch.cuda.is_available() and gpus == 1:
        pytest.skip("this machine has a GPU")
    started = time.monotonic()
    with pytest.raises(WsnasError, match=why):
        list(run_jobs(eval, ["1"], Executor(ray=cluster.address, gpus=gpus)))
    assert time.monotonic() - started < 60


LACKING = """
import sys
class Lacking:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == {package!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}")
sys.meta_path.insert(0, Lacking())
"""


@pytest.mark.parametrize("package", ["wsnas", "toy_space", "torch"])
def test_nodes_without_a_package_stop_the_run_and_leave_no_rows(cluster: Any, tmp_path: Path, package: str) -> None:
    """Each training was a row that said crash, and the benchmark was published, with exit code 0."""
    (tmp_path / "node").mkdir()
    (tmp_path / "node" / "sitecustomize.py").write_text(LACKING.format(package=package))  # run as a worker starts
    lacking = {"env_vars": {"PYTHONPATH": str(tmp_path / "node")}}
    ray.init(address=cluster.address, runtime_env=lacking, log_to_driver=False, logging_level="ERROR")
    try:
        options = ["--sample", "3", "--seeds", "1", "--no-latency", "--ray", "auto", "--out", str(tmp_path / "truth")]
        done = CliRunner().invoke(main, ["ground-truth", "toy", *options])
    finally:
        ray.shutdown()
    assert done.exit_code == 2, done.output
    (said,) = [line for line in done.output.splitlines() if line.startswith("Error: ")]
    assert f"cannot run a job (ModuleNotFoundError: No module named '{package}" in said
    assert "every node needs the packages" in said
    assert Run.read(tmp_path / "truth").records("training") == {}
    assert not (tmp_path / "truth" / "table.parquet").exists()


def test_trainings_on_the_cluster_are_recorded_here(cluster: Any, tmp_path: Path) -> None:
    """The same table as without Ray; finished trainings are not repeated."""
    some = ALL[:3]
    there = train_many(TOY, some, tmp_path / "there", seeds=(0, 1), executor=Executor(ray=cluster.address))
    here = train_many(TOY, some, tmp_path / "here", seeds=(0, 1), executor=Executor(0))
    assert there.about["status"] == here.about["status"] == "6 ok"
    assert there.columns.keys() == here.columns.keys()
    for column, values in there.columns.items():
        np.testing.assert_array_equal(values, here.columns[column])
    rows = Run.read(tmp_path / "there").records("training")
    train_many(TOY, ALL[:4], tmp_path / "there", seeds=(0, 1), executor=Executor(0))
    again = Run.read(tmp_path / "there").records("training")
    assert len(again) == 8
    assert {name: again[name] for name in rows} == rows  # their seconds, too


def test_the_cluster_scores_as_this_process_does(cluster: Any, tmp_path: Path) -> None:
    supernet = train_supernet(TOY, MICRO, out=tmp_path / "run", device="cpu")
    alone = evaluate(supernet, ALL, resume=False)
    assert evaluate(supernet, ALL, resume=False, executor=Executor(ray=cluster.address)) == alone


def test_a_study_trains_and_scores_its_supernets_on_the_cluster(cluster: Any, tmp_path: Path) -> None:
    """Into the folder that all nodes see, where the next study finds them."""
    jobs = [SupernetJob("toy", MICRO, seed, None, ALL[:4], str(tmp_path)) for seed in (0, 1)]
    found = dict(run_jobs(supernet_scores, jobs, Executor(ray=cluster.address)))
    for job in jobs:
        recorded = job.recorded()
        assert recorded is not None
        np.testing.assert_array_equal(found[job], recorded)


def test_a_session_that_is_there_is_used_and_left_running_and_gets_the_folders(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a Ray job or a notebook: the workers read the same data and tables as this process would."""
    monkeypatch.setenv("WSNAS_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("WSNAS_TABLES", str(tmp_path / "tables"))
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    try:
        jobs = [f"__import__('os').environ['WSNAS_{name}']" for name in ("DATA", "TABLES")]
        found = dict(run_jobs(eval, jobs, Executor(ray="auto")))
        assert list(map(found.get, jobs)) == [str(tmp_path / "data"), str(tmp_path / "tables")]
        assert ray.is_initialized()
        assert ray.get(ray.remote(lambda: 7).remote()) == 7
    finally:
        ray.shutdown()

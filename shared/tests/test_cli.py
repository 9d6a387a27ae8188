"""The command line with the core alone."""

from __future__ import annotations

import itertools
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from toy_space import ALL, MICRO, TOY

from wsnas.cli import main
from wsnas.environment import environment, named_in
from wsnas.errors import WsnasError
from wsnas.evaluation import latest_scores
from wsnas.executor import Executor
from wsnas.ground_truth import train_many
from wsnas.overview import overview
from wsnas.proxies import proxy_scores
from wsnas.publish import publish
from wsnas.recipe import change_recipe
from wsnas.recipe_options import chosen_recipe
from wsnas.runs import Run
from wsnas.studies import sample
from wsnas.studies.jobs import ProxyJob, all_untrained_scores
from wsnas.studies.options import StudyOptions
from wsnas.supernet import train_supernet
from wsnas.table import Table


def wsnas(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "wsnas", *arguments], capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("arguments", [["--help"], ["train-supernet", "--help"], ["table", "--help"], ["--version"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom wsnas.cli import main\n"
        f"try: main({arguments!r})\nexcept SystemExit as end: assert end.code == 0\n"
        "print('heavy:', *(set(sys.modules) & {'torch', 'torchvision', 'matplotlib', 'scipy', 'pyarrow', 'numpy'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].strip() == "heavy:"


def test_a_reader_that_has_seen_enough_is_no_error(tmp_path: Path) -> None:
    """``wsnas runs | head -1``."""
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "wsnas", "runs", str(tmp_path)], stdout=write, stderr=subprocess.PIPE, text=True
    )
    os.close(write)
    assert done.stderr == ""
    assert done.returncode == 1


def test_python_m_wsnas_is_the_command() -> None:
    done = wsnas("--help")
    assert done.returncode == 0
    assert done.stdout.startswith("Usage: wsnas ")
    assert "train-supernet" in done.stdout


def test_an_unknown_space_exits_2_with_one_line() -> None:
    done = wsnas("train-supernet", "nb999")
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.strip().splitlines()) == 1
    assert "nb999" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["train-supernet", "toy", "--paths", "zigzag"],
        ["train-supernet", "toy", "--cells", "3"],  # the toy recipe has no cells
        ["train-supernet", "toy", "--dataset", "nowhere"],
        ["train-supernet", "toy", "--width", "1.35"],  # nor a width
        ["train-supernet", "toy", "--skip-corrupt"],
        ["train-supernet", "toy", "--sync-bn", "--device", "cpu"],
        ["train-supernet", "toy", "--device", "abacus"],
        ["train-supernet", "toy", "--out", "file"],
        ["evaluate", "nowhere"],
        ["evaluate", "file"],
        ["correlate", "nowhere"],
        ["train", "toy", "conv3"],
        ["table", "import", "toy", "file"],
        ["table", "show", "toy"],
        ["table", "query", "toy", "conv3-conv3-conv3", "--table", "file"],
    ],
    ids=" ".join,
)
def test_what_is_refused_exits_2_with_one_sentence(
    arguments: list[str], toy_installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WSNAS_TABLES", str(tmp_path))
    (tmp_path / "file").write_text("neither a run nor a table")
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 2, done.output
    assert done.output.startswith("Error: ")
    assert len(done.output.strip().splitlines()) == 1


@pytest.mark.parametrize("channels", ["1000000", "1000000000"])  # 36 TB a layer; more than an address can name
def test_a_lack_of_memory_is_one_sentence(
    toy_installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, channels: str
) -> None:
    monkeypatch.chdir(tmp_path)
    said = "memory is short: give a smaller --batch"
    done = CliRunner().invoke(main, ["train-supernet", "toy", "--channels", channels])
    assert (done.exit_code, done.output.startswith(f"Error: {said}")) == (2, True), done.output
    real = TOY.network
    jobs: list[Any] = []

    def in_the_jobs(self: Any, arch: Any, recipe: Any) -> Any:
        jobs.append(arch)
        return real(arch, recipe if len(jobs) == 1 else change_recipe(recipe, channels=int(channels)))

    monkeypatch.setattr(type(TOY), "network", in_the_jobs)
    truth = ["ground-truth", "toy", "--sample", "2", "--seeds", "1", "--workers", "0", "--out", "truth"]
    done = CliRunner().invoke(main, truth)
    assert done.exit_code == 2, done.output
    assert f"none of 2 trainings succeeded, so nothing was recorded; the first error was: {said}" in done.output


def test_train_evaluate_and_correlate(toy_installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From training to correlation, with a table in which only conv3 in the first layer matters."""
    monkeypatch.chdir(tmp_path)
    names = ["conv3-conv3-conv3", "conv1-conv3-pool", "pool-pool-pool", "conv3-pool-conv1", "pool-conv1-conv1"]
    rows = "\n".join(f"{name},{50 + i}" for i, name in enumerate(names))
    (tmp_path / "truth.csv").write_text(f"architecture,toy_test_2\n{rows}\n")

    def run(*arguments: str) -> str:
        done = CliRunner().invoke(main, list(arguments), catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.output

    assert f"{MICRO.supernet.epochs * 6} steps" in run("train-supernet", "toy", "--out", "run")
    assert "5 submodels" in run("evaluate", "run", "--table", "truth.csv")
    assert "over 5 of 5 evaluated architectures (toy test, 2 epochs)" in run("correlate", "run", "--table", "truth.csv")
    equal = "\n".join(f"{name},{50 + i},{50 + i}" for i, name in enumerate(names))
    (tmp_path / "equal.csv").write_text(f"architecture,toy_test_2_0,toy_test_2_1\n{equal}\n")
    said = "seeds 0 and 1 are equal everywhere: a copy, not a repetition"
    assert said in run("correlate", "run", "--table", "equal.csv")
    assert said in run("table", "show", "toy", "--table", "equal.csv")
    supernet = Run.read(tmp_path / "run")
    (kind,) = [kind for kind in supernet.kinds() if kind.startswith("evaluation ")]
    supernet.record(kind, names[0], {"accuracy": math.inf, "loss": 800.0})  # as it was once recorded
    said = run("correlate", "run", "--table", "truth.csv")
    assert "over 4 of 5 evaluated" in said
    assert "left out: 1 of 5 scores, which are not finite" in said
    supernet.record_all(kind, {name: {"accuracy": 25.0, "loss": 1.4} for name in names})
    assert "all 5 scores are equal (25): there is no order" in run("correlate", "run", "--table", "truth.csv")
    assert "5 architectures, 1 column" in run("table", "import", "toy", "truth.csv", "--out", "toy.parquet")
    assert "51.000" in run("table", "query", "toy", names[1], "--table", "toy.parquet")
    assert "toy: 5 architectures" in run("table", "show", "toy", "--table", "toy.parquet")


def test_a_space_in_another_spelling_is_found_again(
    toy_installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WSNAS_TABLES", str(tmp_path))
    (tmp_path / "truth.csv").write_text("architecture,toy_test_2\nconv3-conv3-conv3,50\npool-pool-pool,40\n")
    for command in (
        ["table", "import", "TOY", "truth.csv"],
        ["table", "show", "toy"],
        ["score", "Toy", "--sample", "2"],
    ):
        done = CliRunner().invoke(main, command)
        assert done.exit_code == 0, done.output
    assert {path.name for path in tmp_path.rglob("*.*")} >= {"toy.parquet"}
    for proxy, seed, files in (("naswot", "0", 1), ("NASWOT", "0", 1), ("naswot", "1", 2)):
        done = CliRunner().invoke(main, ["score", "toy", "--sample", "2", "--proxy", proxy, "--seed", seed])
        assert done.exit_code == 0, done.output
        assert len([*tmp_path.glob("runs/toy-naswot-*.csv")]) == files  # other settings replace no file
    assert "over 2 architectures" in CliRunner().invoke(main, ["score", "toy"]).output  # by default, all there are


def test_a_table_is_no_csv_whatever_its_name(toy_installed: Path, tmp_path: Path) -> None:
    (tmp_path / "truth.csv").write_text("architecture,toy_test_2\nconv3-conv3-conv3,50\npool-pool-pool,40\n")
    for command in (["import", "toy"], ["join"]):
        done = CliRunner().invoke(main, ["table", *command, f"{tmp_path}/truth.csv", "--out", f"{tmp_path}/new.csv"])
        assert done.exit_code == 2
        assert f"so name the file {tmp_path}/new.parquet" in done.output
        assert not (tmp_path / "new.csv").exists()
        for out, said in (("new", f"so name the file {tmp_path}/new.parquet"), ("", f"such as {tmp_path}/table.par")):
            done = CliRunner().invoke(main, ["table", *command, f"{tmp_path}/truth.csv", "--out", f"{tmp_path}/{out}"])
            assert done.exit_code == 2
            assert said in done.output
        assert not (tmp_path / "new").exists()


def test_a_join_takes_what_table_takes_and_says_what_to_import(
    toy_installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder of ground truth is one; what is no Parquet does not say of which space it is."""
    monkeypatch.chdir(tmp_path)
    for i in (0, 1):
        truth = tmp_path / f"truth-{i}"
        publish(TOY, train_many(TOY, ALL[i : i + 2], truth, seeds=(0,), executor=Executor(workers=0)), truth)
    joining = ["table", "join", "truth-0", "--out", "both.parquet"]
    done = CliRunner().invoke(main, [*joining, "truth-1/table.parquet"])
    assert done.exit_code == 0, done.output
    assert Table.load("both.parquet").archs == tuple(TOY.encode(arch) for arch in ALL[:3])
    Path("truth-1/table.parquet").unlink()
    for file, said in (
        ("truth-1", "is a run without a table"),
        ("truth-1/table.csv", "import it first, with 'wsnas table import SPACE truth-1/table.csv --out TABLE.parquet'"),
        ("nothing.csv", "there is no ground-truth table nothing.csv"),
    ):
        done = CliRunner().invoke(main, [*joining, file])
        assert (done.exit_code, said in done.output) == (2, True), done.output


@pytest.mark.parametrize("command", ["evaluate net --table", "score toy --images 8 --table", "table join"])
def test_a_table_without_results_is_refused(
    command: str, toy_installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was not used, and nothing said so: architectures of all the space were drawn. The join was a traceback."""
    monkeypatch.chdir(tmp_path)
    Table("toy", tuple(TOY.encode(arch) for arch in ALL[:3]), {}).save("empty.parquet")
    train_supernet(TOY, out="net", device="cpu")
    more = ["--out", "joined.parquet"] if "join" in command else ["--device", "cpu"]
    done = CliRunner().invoke(main, [*command.split(), "empty.parquet", *more])
    assert done.exit_code == 2, done.output
    (line,) = done.output.splitlines()
    assert line.startswith(
        "Error: the first table of toy has no measurements"
        if "join" in command
        else "Error: the table of toy has no results"
    )
    assert Run.read("net").kinds() == []
    assert not Path("joined.parquet").exists()


def test_a_file_that_is_a_folder_is_no_matter_of_disk_space(tmp_path: Path) -> None:
    with pytest.raises(WsnasError, match=r"\(Is a directory\): existing files are intact; choose another folder"):
        Table(TOY.name, (), {}).save(tmp_path)


@pytest.mark.usefixtures("toy_installed")
def test_a_time_limit_too_short_for_scores_says_of_what(tmp_path: Path) -> None:
    train_supernet(TOY, out=tmp_path / "net", device="cpu")
    for archs, which in ((ALL, "conv3-conv3-conv3 and 19 more submodels"), (ALL[:1], "conv3-conv3-conv3")):
        names = [part for arch in archs for part in ("--arch", TOY.encode(arch))]
        done = CliRunner().invoke(
            main, ["evaluate", str(tmp_path / "net"), *names, "--workers", "0", "--timeout", "0.001"]
        )
        assert done.exit_code == 2
        assert done.output == (
            f"Error: a job that loads the supernet and scores {which} took longer than 0.001 s: give a larger "
            "time limit (--timeout)\n"
        )
    options = StudyOptions(
        "worth", "micro", (), (0,), None, None, None, True, Executor(0, timeout=0.001), tmp_path / "worth", {}
    )
    job = ProxyJob("toy", MICRO, "naswot", 8, 0, ALL[:2], str(tmp_path / "proxies"))
    with pytest.raises(WsnasError, match=r"naswot of 2 architectures of toy took longer than 0\.001 s: give a larger"):
        all_untrained_scores([job], options)


@pytest.mark.parametrize("count", ["1", "4"])
def test_ground_truth_trains_a_table(
    toy_installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: str
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ["ground-truth", "toy", "--sample", count, "--seeds", "2", "--workers", "0", "--out", "truth"]
    for _ in range(2):  # the second time there is nothing left to train
        done = CliRunner().invoke(main, arguments, catch_exceptions=False)
        assert done.exit_code == 0, done.output
        assert f"{count} architecture{'s' * (count != '1')}, 2 seeds, 0 with a failed training" in done.output
    assert (tmp_path / "truth" / "table.parquet").exists()


def test_all_of_a_space_smaller_than_the_usual_sample_are_scored(
    toy_installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a ground truth to draw from; a number that was asked for is not made smaller."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WSNAS_TABLES", str(tmp_path))
    assert CliRunner().invoke(main, ["train-supernet", "toy", "--out", "net", "--device", "cpu"]).exit_code == 0
    done = CliRunner().invoke(main, ["evaluate", "net", "--device", "cpu"])
    assert (done.exit_code, done.output.splitlines()[-1].startswith("27 submodels: ")) == (0, True), done.output
    assert "27 architectures" in CliRunner().invoke(main, ["score", "toy", "--device", "cpu"]).output
    refused = CliRunner().invoke(main, ["evaluate", "net", "--sample", "28", "--device", "cpu"])
    assert (refused.exit_code, "cannot draw 28 different architectures" in refused.output) == (2, True)


def test_a_limit_on_multiply_adds_is_kept(toy_installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 27 toy architectures with 4 channels, 8 have no 3x3 convolution: at most 3 x 1,024 beside what is fixed."""
    monkeypatch.chdir(tmp_path)
    limit = str(64 * 27 * 4 + 4 * 4 + 3 * 1024)
    assert CliRunner().invoke(main, ["train-supernet", "toy", "--out", "net", "--device", "cpu"]).exit_code == 0
    evaluate = ["evaluate", "net", "--sample", "8", "--max-macs", limit, "--device", "cpu"]
    done = CliRunner().invoke(main, evaluate)
    assert done.exit_code == 0, done.output
    scored = latest_scores(Run.read(tmp_path / "net"))
    assert sorted(scored) == sorted("-".join(ops) for ops in itertools.product(("conv1", "pool"), repeat=3))
    for count, said in (("3", "; these are a uniform sample"), ("2", "; 2 of these are a uniform sample")):
        truth = ["ground-truth", "toy", "--sample", count, "--seeds", "1", "--workers", "0", "--no-latency"]
        done = CliRunner().invoke(main, [*truth, "--max-macs", limit, "--out", "truth"])
        assert done.exit_code == 0, done.output
        assert f"{said} of those with at most {int(limit):,} multiply-adds\n" in Path("truth/README.md").read_text()
    refused = CliRunner().invoke(main, [*evaluate[:3], "1", "--max-macs", "10", "--device", "cpu"])
    assert refused.exit_code == 2
    assert "at most 10 multiply-adds" in refused.output


def test_the_shell_reads_a_runs_command_as_it_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = ["train", "nb201", "|none~0|+|none~0|none~1|", "--out", "my runs/$HOME", "it's", ""]
    monkeypatch.setattr(sys, "argv", ["/somewhere/wsnas", *given])
    command = Run.open(tmp_path / "run", {"kind": "stand-alone"}, {}).started()["command"]
    said = subprocess.check_output(f"wsnas() {{ printf '%s\\n' \"$@\"; }}; {command}", shell=True, text=True)
    assert said.split("\n")[:-1] == given


def test_a_damaged_ground_truth_is_not_taken_for_none(
    toy_installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WSNAS_TABLES", str(tmp_path / "tables"))
    monkeypatch.setattr(sample, "installed_spaces", lambda: ("toy",))
    commands = (["evaluate", "net", "--sample", "2"], ["score", "toy", "--sample", "2", "--images", "8"])
    options = StudyOptions("epochs", "micro", (), (0,), None, None, None, True, Executor(workers=0), tmp_path, {})
    assert CliRunner().invoke(main, ["train-supernet", "toy", "--out", "net"]).exit_code == 0
    for command in commands:
        assert CliRunner().invoke(main, command).exit_code == 0
    with pytest.raises(WsnasError, match="no installed space has a ground truth"):
        sample.space_samples(options, 12)
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables/toy.parquet").write_bytes(b"PAR1 cut")
    for command in commands:
        refused = CliRunner().invoke(main, command)
        assert refused.exit_code == 2
        assert "toy.parquet" in refused.output
    with pytest.raises(WsnasError, match=r"toy\.parquet"):
        sample.space_samples(options, 12)


def test_runs_says_what_is_unfinished(toy_installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ground truth that was given more architectures or seeds since it was published; zero-cost scores never are."""
    truth, here = tmp_path / "runs" / "truth", Executor(workers=0)

    def stop(done: int, total: int, note: str) -> None:
        raise KeyboardInterrupt

    def listed() -> list[tuple[str, bool]]:
        return [(one.progress, one.finished) for one in overview(tmp_path / "runs")]

    publish(TOY, train_many(TOY, ALL[:2], truth, seeds=(0,), executor=here), truth)
    assert listed() == [("2 trainings of 2 architectures", True)]
    with pytest.raises(KeyboardInterrupt):
        train_many(TOY, ALL[:4], truth, seeds=(0,), executor=here, report=stop)
    assert listed() == [("3 trainings of 4 architectures, 1 missing", False)]
    train_many(TOY, ALL[:4], truth, seeds=(0,), executor=here)
    assert listed() == [("4 trainings of 4 architectures, not all published", False)]
    publish(TOY, train_many(TOY, ALL[:4], truth, seeds=(0,), executor=here), truth)
    assert listed() == [("4 trainings of 4 architectures", True)]
    with pytest.raises(KeyboardInterrupt):
        train_many(TOY, ALL[:4], truth, seeds=(0, 1), executor=here, report=stop)
    assert listed() == [("5 trainings of 4 architectures, 3 missing", False)]
    with monkeypatch.context() as patched:
        patched.setattr("wsnas.ground_truth.run_jobs", lambda *_: (_ for _ in ()))
        train_many(TOY, ALL[:4], truth, seeds=(0, 1, 2), executor=here)  # ended before the first was done
    assert listed() == [("5 trainings of 4 architectures, 7 missing", False)]
    publish(TOY, train_many(TOY, ALL[:2], truth, seeds=(0, 1), executor=here), truth)  # a seed of some, as by --best
    proxy_scores(TOY, ALL[:3], MICRO, images=8, out=tmp_path / "runs" / "untrained")
    assert listed() == [("6 trainings of 4 architectures", True), ("3 architectures scored", True)]


@pytest.mark.usefixtures("toy_installed")
def test_runs_shows_the_command_that_extends_a_ground_truth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the one that began it, which would not train what is missing; a run from before has no other."""

    def stop(done: int, total: int, note: str) -> None:
        raise KeyboardInterrupt

    def shown() -> str:
        return CliRunner().invoke(main, ["runs", str(tmp_path)]).output.splitlines()[-1].strip()

    here, commands = Executor(workers=0), [f"wsnas ground-truth toy --sample {count} --out truth" for count in (2, 5)]
    monkeypatch.setattr(sys, "argv", commands[0].split())
    train_many(TOY, ALL[:2], tmp_path / "truth", seeds=(0,), executor=here)
    assert shown() == commands[0]
    monkeypatch.setattr(sys, "argv", commands[1].split())
    with pytest.raises(KeyboardInterrupt):
        train_many(TOY, ALL[:5], tmp_path / "truth", seeds=(0,), executor=here, report=stop)
    assert shown() == commands[1]
    run = Run.read(tmp_path / "truth")
    run.record("request", "latest", {"trainings": run.records("request")["latest"]["trainings"]})
    assert shown() == commands[0]


def test_a_data_set_in_the_home_folder_is_found_where_the_shell_leaves_the_tilde(
    toy_installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in --dataset=~/set.npz."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "set.npz").write_bytes(b"")
    assert chosen_recipe(TOY, "micro", {"dataset": "~/set.npz"}).dataset == str(tmp_path / "set.npz")
    assert chosen_recipe(TOY, "micro", {"dataset": "~nobody-here/set.npz"}).dataset == "~nobody-here/set.npz"
    assert chosen_recipe(TOY, "micro", {"split_file": "~/split.json"}).split_file == str(tmp_path / "split.json")


def test_windows_is_refused_in_a_sentence(toy_installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By every command, and by jobs that Python code starts: not as trainings that failed."""
    monkeypatch.setattr("wsnas.stopping.sys.platform", "win32")
    done = CliRunner().invoke(main, ["ground-truth", "toy", "--sample", "1", "--out", str(tmp_path / "truth")])
    assert (done.exit_code, done.output.count("\n")) == (2, 1)
    assert "WSL" in done.output
    with pytest.raises(WsnasError, match="WSL"):
        train_many(TOY, ALL[:1], tmp_path / "truth", seeds=(0,), executor=Executor(workers=0))


@pytest.mark.parametrize(
    ("cpuinfo", "name"),
    [
        (
            "processor\t: 0\nmodel name\t: AMD EPYC\ncpu family\t: 25\nmodel\t\t: 17\n\nprocessor\t: 1\n",
            "AMD EPYC 25 17",
        ),
        (
            "processor\t: 0\nBogoMIPS\t: 243.75\nCPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x3\n"
            "CPU part\t: 0xd0c\nCPU revision\t: 1\n\n",
            "CPU implementer 0x41 CPU variant 0x3 CPU part 0xd0c",
        ),
        ("", ""),
    ],
)
def test_a_processor_has_a_name(cpuinfo: str, name: str) -> None:
    """Latencies and the last bits depend on it. ARM's kernels name none: 0x41 is ARM, 0xd0c its Neoverse N1."""
    assert named_in(cpuinfo) == name
    assert environment()["processor"]

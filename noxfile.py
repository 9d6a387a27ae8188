"""Everything that is run here, each in an environment of its own: ``nox -l`` lists it."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import nox

try:
    import tomllib
except ModuleNotFoundError:
    sys.exit(
        f"wsnas needs Python 3.11 or newer; this nox runs on {sys.version.split()[0]}, so install it with a newer one"
    )

os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # with it, every process of the tests compiles torch's Python code anew

nox.needs_version = ">=2024.4"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.reuse_existing_virtualenvs = True
nox.options.sessions = ["tests", "lint", "types"]

PACKAGES = sorted(path.parent.name for path in Path("packages").glob("*/pyproject.toml"))
STUDIES = sorted(path.stem for path in Path("studies").glob("*.py"))
REPORT = "./shared[explorer]"  # the core with what the report's page of architectures needs
BENCHMARKS = sorted(path.stem for path in Path("benchmarks").glob("*.py") if path.stem not in ("textbook", "trials"))
TIMINGS = ["supernet_step", "small_training", "rnn_step", "ground_truth", "loaders"]  # they need no GPU
COMMITTED = ("docs/results/desk", "docs/results/real")  # results shown beside what is in runs/
PINS = ("-c", "constraints.txt")
CONTRACT = "tests/test_contract.py"  # of every installed space, and of the documentation's own, depth
SIDE_BY_SIDE = ("-n", "auto", "--maxprocesses", "4", "--dist", "worksteal")  # one process a core, up to four


def install(session: nox.Session, packages: list[str], *tools: str, core: str = "./shared") -> None:
    """The core, some space packages and some tools, all at the pinned versions."""
    session.install(*PINS, core, *(f"./packages/{package}" for package in packages), *tools)


@nox.session
@nox.parametrize("package", ["shared", "ray", *PACKAGES, "all"], ids=["shared", "ray", *PACKAGES, "all"])
def tests(session: nox.Session, package: str) -> None:
    """The tests of the core, of Ray and Slurm, of each space with only the core, and of several packages."""
    if package == "shared":
        install(session, [], "pytest", "pytest-xdist", "hypothesis")
        where = [*SIDE_BY_SIDE, "shared/tests", CONTRACT, f"--deselect={CONTRACT}::test_a_space_is_installed"]
    elif package == "ray":
        session.install(*PINS, "./shared[ray,slurm]", "pytest", "pytest-xdist")
        where = ["-n", "2", "--dist", "loadfile", "shared/tests/test_ray.py", "shared/tests/test_slurm.py"]  # they wait
    elif package == "all":
        install(session, PACKAGES, "pytest", "pytest-xdist", "hypothesis", core=REPORT)
        where = [*SIDE_BY_SIDE, "tests", f"--ignore={CONTRACT}"]  # which each package's session and shared's run
    else:
        install(session, [package], "pytest", "pytest-xdist", "hypothesis")
        own, kept = f"packages/{package}/tests", "not (test_contract.py and depth)"
        where = [*SIDE_BY_SIDE, CONTRACT, own, "-k", kept]  # first what has the longest test
    session.run("pytest", "--durations=15", *where, *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Style and likely mistakes (ruff)."""
    session.install(*PINS, "ruff")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Types (mypy, strict)."""
    install(session, PACKAGES, "mypy")
    session.run("mypy")  # of what [tool.mypy] files in pyproject.toml lists


def _study(name: str) -> None:
    def run(session: nox.Session) -> None:
        install(session, PACKAGES)
        session.run("python", f"studies/{name}.py", *session.posargs)

    run.__doc__ = f"The study {name}; options after --, e.g. nox -s study_{name} -- --space nb201."
    nox.session(run, name=f"study_{name}")


for study in STUDIES:
    _study(study)


@nox.session
def studies(session: nox.Session) -> None:
    """All studies one after another, and the report; options after -- go to every study that trains."""
    install(session, PACKAGES, core=REPORT)
    for name in STUDIES:
        session.run("python", f"studies/{name}.py", *(session.posargs if name != "spaces" else ()))
    session.run("wsnas", "report", "runs", *COMMITTED)


@nox.session
def report(session: nox.Session) -> None:
    """One HTML page of what the studies in runs/ left, and one of their architectures."""
    install(session, PACKAGES, core=REPORT)
    session.run("wsnas", "report", *(session.posargs or ["runs", *COMMITTED]))


@nox.session
def docs(session: nox.Session) -> None:
    """The documentation, into site/."""
    install(session, [], "mkdocs-material", "mkdocstrings[python]")
    session.run("mkdocs", "build", "--strict", *session.posargs)


@nox.session
def notebook(session: nox.Session) -> None:
    """Executes docs/notebook.ipynb anew, in a folder of its own, and keeps its outputs."""
    install(session, ["nb201"], "nbclient", "ipykernel", core=REPORT)
    page, here = Path("docs/notebook.ipynb").resolve(), Path(session.create_tmp())
    (here / page.name).write_bytes(page.read_bytes())
    with session.chdir(here):
        session.run("jupyter", "execute", "--inplace", page.name)
        page.write_bytes(Path(page.name).read_bytes())


@nox.session
def bench(session: nox.Session) -> None:
    """Timings, each against the textbook way in one run; names after -- choose, e.g. nox -s bench -- supernet_step.

    Without a name the timings that need no GPU. What else is in benchmarks/, simulations and trials, runs by its name.
    """
    names = [name for name in session.posargs if name in BENCHMARKS] or TIMINGS
    install(session, PACKAGES, *(["pytest", "hypothesis"] if "gpu_check" in names else []))
    for name in names:
        session.run("python", f"benchmarks/{name}.py", *(arg for arg in session.posargs if arg not in BENCHMARKS))


@nox.session
def browser(session: nox.Session) -> None:
    """The report and its page of architectures in a headless Chromium, which must be on the PATH."""
    install(session, PACKAGES, "pytest", "playwright", core=REPORT)
    session.run("pytest", "tests/test_explorer.py", *session.posargs)


@nox.session
def oldest(session: nox.Session) -> None:
    """The core's tests and the contract of every space with the oldest versions that shared/pyproject.toml allows."""
    session.install("--resolution", "lowest-direct", "-r", "shared/pyproject.toml")
    session.install("pytest", "pytest-xdist", "hypothesis", "google-crc32c")  # the last one is nb101's
    session.install("--no-deps", "./shared", *(f"./packages/{package}" for package in PACKAGES))
    session.run("pytest", *SIDE_BY_SIDE, "shared/tests", CONTRACT, *session.posargs)


@nox.session
def torchtext(session: nox.Session) -> None:
    """Penn Treebank through torchtext, with the last torch that it works with; needs shared/data/ptb.zip."""
    versions = ["torch==2.3.1", "torchvision==0.18.1", "torchtext==0.18.0", "numpy<2", "pyarrow<19"]
    session.install(*versions, "./shared", "./packages/darts_rnn[torchtext]", "pytest")
    session.run("pytest", "packages/darts_rnn/tests/test_torchtext.py", *session.posargs)


@nox.session
def release(session: nox.Session) -> None:
    """Builds the six source distributions and, from them, wheels into dist/; installs these alone and tries them."""
    out = Path("dist")
    for old in out.glob("wsnas*"):
        old.unlink()
    session.install("uv")
    for folder in ("shared", *(f"packages/{package}" for package in PACKAGES)):
        session.run("uv", "build", "--quiet", "--out-dir", str(out), folder)
    wheels = sorted(str(wheel.resolve()) for wheel in out.glob("*.whl"))
    session.install(*PINS, *wheels)
    session.run("uv", "pip", "check")
    with session.chdir(session.create_tmp()):  # away from the checkout: only what is installed counts
        small = ["--epochs", "1", "--channels", "2", "--train-size", "640", "--valid-size", "100"]
        session.run("wsnas", "spaces")
        session.run("wsnas", "train-supernet", "nb201", *small, "--out", "run")
        session.run("wsnas", "evaluate", "run", "--sample", "20")
        session.run("wsnas", "correlate", "run")
        session.run("wsnas", "study", "spaces", "--sample", "20")
        session.run("wsnas", "report", "runs")


@nox.session(venv_backend="none")
def version(session: nox.Session) -> None:
    """Sets the version everywhere it is written: nox -s version -- 0.2.0."""
    (new,) = session.posargs
    written = {"pyproject.toml": r'(?m)(^version = "|"wsnas==)[^"]+', "__init__.py": r'(__version__ = ")[^"]+'}
    files = [Path("shared/pyproject.toml"), *Path("packages").glob("*/pyproject.toml")]
    for file in [*files, Path("shared/src/wsnas/__init__.py")]:
        file.write_text(re.sub(written[file.name], rf"\g<1>{new}", file.read_text()))
    cited = Path("CITATION.cff")
    cited.write_text(re.sub(r"(?m)^version: .*", f"version: {new}", cited.read_text()))


@nox.session
def pins(session: nox.Session) -> None:
    """Writes constraints.txt anew: the newest versions that fit together, on every platform, without addresses."""
    session.install("uv")
    for_tools = Path(session.create_tmp()) / "tools.in"
    needed = ["pytest", "pytest-xdist", "hypothesis", "ruff", "mypy", "playwright"]
    needed += ["mkdocs-material", "mkdocstrings[python]"]
    for package in PACKAGES:
        described = tomllib.loads(Path(f"packages/{package}/pyproject.toml").read_text())
        needed += [name for name in described["project"]["dependencies"] if not name.startswith("wsnas")]
    for_tools.write_text("\n".join(needed))
    plain = ["--no-annotate", "--no-header", "--quiet"]
    command = ["uv", "pip", "compile", "--universal", "--python-version", "3.11", *plain]
    session.run(*command, "--upgrade", "--all-extras", "shared/pyproject.toml", str(for_tools), "-o", "constraints.txt")

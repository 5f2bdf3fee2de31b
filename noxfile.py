"""Sessions of the workspace; ``nox --list`` shows them.

``nox -s demo`` and ``nox -s tests`` are what the README asks for. A session that has a
package as parameter runs for all four, or for one: ``nox -s "tests(diffsmc)"``.
"""

import json
import os
import re
import shlex
import time
from pathlib import Path
from typing import Any

import nox

ROOT = Path(__file__).parent
CONSTRAINTS = "packages/constraints.txt"
MODULES = {
    "ardm-guidance": "ardm_guidance",
    "neural-lam": "neural_lam",
    "diffsmc": "diffsmc",
    "latentgeom": "latentgeom",
}
PYTHONS = ["3.11", "3.12", "3.13", "3.14"]

nox.needs_version = ">=2025.5.1"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.reuse_venv = "yes"
nox.options.sessions = ["tests"]

# uv doesn't read pip's settings: where pip finds a CPU build of torch, uv must too.
if "PIP_FIND_LINKS" in os.environ:
    os.environ.setdefault("UV_FIND_LINKS", os.environ["PIP_FIND_LINKS"])
# Without bytecode the first start of every environment compiles torch for half a minute.
os.environ.setdefault("UV_COMPILE_BYTECODE", "1")

by_package = nox.parametrize("package", list(MODULES), ids=list(MODULES))


def project(package: str) -> dict[str, Any]:
    """The pyproject.toml of a package."""
    return nox.project.load_toml(ROOT / "packages" / package / "pyproject.toml")


def install(session: nox.Session, *packages: str, groups: tuple[str, ...] = ()) -> None:
    """Install packages of the workspace as editable, with dependency groups, at the pins."""
    requirements = [
        requirement
        for package in packages
        for requirement in nox.project.dependency_groups(project(package), *groups)
    ]
    editable = [word for package in packages for word in ("-e", f"packages/{package}")]
    # torch first, alone: nothing installed afterwards may replace its build.
    session.install("-c", CONSTRAINTS, "torch")
    session.install("-c", CONSTRAINTS, *editable, *sorted(set(requirements)))
    bare = [name for package in packages for name in without_dependencies(package, *groups)]
    if bare:
        session.install("--no-deps", *bare)


def without_dependencies(package: str, *groups: str) -> list[str]:
    """What a group wants of packages whose requirements contradict the pins: data, peers."""
    wanted = project(package).get("tool", {}).get("workspace", {}).get("no-deps", {})
    return [name for group in groups for name in wanted.get(group, [])]


def tool(session: nox.Session, *names: str) -> None:
    """Install tools at the pins."""
    session.install("-c", CONSTRAINTS, *names)


@nox.session
@by_package
def tests(session: nox.Session, package: str) -> None:
    """Tests of a package, without those marked slow; arguments go to pytest."""
    install(session, package, groups=("test",))
    session.run("pytest", f"packages/{package}/tests", "-c", f"packages/{package}/pyproject.toml",
                "-m", "not slow", *session.posargs, env=threads(1))  # fmt: skip


@nox.session
@by_package
def slow(session: nox.Session, package: str) -> None:
    """Tests of a package that are marked slow: statistics, kills, launches of processes."""
    install(session, package, groups=("test",))
    # Exit code 5: the package has none.
    session.run("pytest", f"packages/{package}/tests", "-c", f"packages/{package}/pyproject.toml",
                "-m", "slow", *session.posargs, env=threads(1), success_codes=[0, 5])  # fmt: skip


@nox.session(python=PYTHONS)
@by_package
def matrix(session: nox.Session, package: str) -> None:
    """Tests of a package under each Python, where it is installed."""
    tests(session, package)


@nox.session
@by_package
def demo(session: nox.Session, package: str) -> None:
    """A package's main job on real input, from its own command: report and pictures in out/."""
    install(session, package, groups=("demo",))
    commands = project(package)["tool"]["demo"]["commands"]
    start = time.monotonic()
    for position, command in enumerate(commands, 1):
        print(f"\n[{package}, step {position} of {len(commands)}] {command}", flush=True)
        # The demos' arrays are small: a second thread slows them down, and moves the last bits.
        # What an earlier demo left is the demo's own to replace.
        session.run(*shlex.split(command), "--overwrite", env=threads(1))
    report = ROOT / "out" / package / "report.json"
    pictures = sorted(path.name for path in report.parent.glob("*.png"))
    if not report.is_file() or not pictures:
        session.error(f"the demo left no report or no picture in {report.parent}")
    print(f"\n{package}: {time.monotonic() - start:.0f} s; out/{package}/report.json,",
          f"{', '.join(pictures)}")  # fmt: skip


@nox.session
@by_package
def bench(session: nox.Session, package: str) -> None:
    """A package against its peers, a JSON object a line; ``-- --quick`` takes 2 minutes."""
    script = ROOT / "packages" / package / "bench" / "run.py"
    if not script.is_file():
        print(json.dumps({"package": package, "comparisons": []}))
        return
    install(session, package, groups=("bench",))
    session.run("python", str(script), *session.posargs, env=threads(1))


@nox.session
def integration(session: nox.Session) -> None:
    """The four distributions beside each other: wheels, isolation, commands, reports."""
    tool(session, "pytest", "pytest-timeout", "pyyaml", "uv")
    session.run("pytest", "tests-integration", "-c", "tests-integration/pytest.ini",
                *session.posargs)  # fmt: skip


@nox.session
def lint(session: nox.Session) -> None:
    """Rules and layout of the code."""
    tool(session, "ruff")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Types of the four packages, strictly."""
    install(session, *MODULES)
    tool(session, "mypy", "pandas-stubs", "scipy-stubs", "types-PyYAML")
    for package, module in MODULES.items():
        session.run("mypy", f"packages/{package}/src/{module}")


@nox.session
def docs(session: nox.Session) -> None:
    """The site, offline, every warning an error; pictures come from the demos in out/."""
    tool(session, *nox.project.dependency_groups(nox.project.load_toml("pyproject.toml"), "docs"))
    session.run("sphinx-build", "-W", "--keep-going", "-b", "html", "docs", "docs/_build/html",
                *session.posargs)  # fmt: skip
    print(f"\n{ROOT / 'docs' / '_build' / 'html' / 'index.html'}")


@nox.session(name="help")
@by_package
def help_texts(session: nox.Session, package: str) -> None:
    """Write what ``<command> <verb> --help`` shows anew, after options have changed."""
    install(session, package)
    module = MODULES[package]
    program = (
        f"from {module}.cli import application\n"
        f"from {module}.shell.help import write_help\n"
        "print(*write_help(application()), sep='\\n')"
    )
    session.run("python", "-c", program)


@nox.session
def build(session: nox.Session) -> None:
    """Wheel and source distribution of each package, in dist/."""
    tool(session, "build", "hatchling", "twine")
    chosen = session.posargs or list(MODULES)
    for package in chosen:
        session.run("python", "-m", "build", "--no-isolation", "--outdir", f"dist/{package}",
                    f"packages/{package}")  # fmt: skip
        session.run("twine", "check", "--strict", *map(str, Path("dist", package).glob("*")))


@nox.session(venv_backend="uv")
@by_package
def minimums(session: nox.Session, package: str) -> None:
    """Tests of a package at the lowest versions that its pyproject.toml admits."""
    requirements = nox.project.dependency_groups(project(package), "test")
    session.install("--resolution", "lowest-direct", "-e", f"packages/{package}", *requirements)
    session.run("pytest", f"packages/{package}/tests", "-c", f"packages/{package}/pyproject.toml",
                "-m", "not slow", "-W", "default", *session.posargs, env=threads(1))  # fmt: skip


@nox.session
@by_package
def gpu(session: nox.Session, package: str) -> None:
    """A package's jobs on the GPUs of this machine, one and all; ``-- cpu`` tries them without.

    The tests of devices, the bench's main case, and the commands of ``tool.gpu``: a training,
    under DDP as well, and a sample, a forecast or a geodesic. Skips where there is no GPU.
    """
    install(session, package, groups=("test", "demo"))
    accelerator = (session.posargs or ["gpu"])[0]
    found = session.run("python", "-c", "import torch; print(torch.cuda.device_count())",
                        silent=True)  # fmt: skip
    count, device = int(str(found).split()[-1]), "cuda"
    if accelerator == "cpu":
        count, device = 2, "cpu"
    elif not count:
        session.skip("no GPU that torch can use")
    home = ROOT / "packages" / package
    session.run("pytest", str(home / "tests" / "test_devices.py"), "-c",
                str(home / "pyproject.toml"), env={"TEST_DEVICE": device})  # fmt: skip
    session.run("python", str(home / "bench" / "accelerator.py"), "--device", device)
    for strategy, devices in (("auto", 1), ("ddp", count)):
        on = f"--trainer.accelerator {accelerator}"
        words = {
            "out": f"out/gpu/{package}-{strategy}",
            "device": f"{on} --trainer.devices 1",
            "training": f"{on} --trainer.devices {devices} --trainer.strategy {strategy}",
        }
        for command in project(package)["tool"]["gpu"]["commands"]:
            session.run(*shlex.split(command.format(**words)), "--overwrite")


@nox.session
@by_package
def cover(session: nox.Session, package: str) -> None:
    """Coverage of a package's tests, by line and branch."""
    install(session, package, groups=("test",))
    settings = {"COVERAGE_RCFILE": "pyproject.toml", "COVERAGE_FILE": f".coverage.{package}"}
    environment = threads(1) | settings
    session.run("coverage", "run", "--source", MODULES[package], "-m", "pytest",
                f"packages/{package}/tests", "-c", f"packages/{package}/pyproject.toml",
                "-m", "not slow", "-q", *session.posargs, env=environment)  # fmt: skip
    session.run("coverage", "combine", env=environment)
    session.run("coverage", "report", "--skip-covered", env=environment)


# Held where a newer release needs more than a new number: see docs/development.md.
HELD = ("torch", "lightning", "pytorch-lightning", "jsonargparse")


@nox.session(venv_backend="uv")
def pins(session: nox.Session) -> None:
    """Rewrite the pins to the newest versions that the four packages admit together."""
    path = ROOT / CONSTRAINTS
    lines = path.read_text().splitlines()
    names = {line.partition("==")[0] for line in lines if "==" in line}
    held = [line for line in lines if line.partition("==")[0] in {*HELD, *session.posargs}]
    folder = Path(session.create_tmp())
    wanted, constraints = folder / "requirements.in", folder / "held.txt"
    wanted.write_text("\n".join(sorted(names)) + "\n")
    constraints.write_text("\n".join(held) + "\n")
    projects = [f"packages/{package}/pyproject.toml" for package in MODULES]
    resolved = session.run(
        "uv", "pip", "compile", "--quiet", "--no-header", "--no-annotate", "--upgrade",
        "--constraints", str(constraints), str(wanted), *projects, silent=True, external=True,
    )  # fmt: skip
    newest = dict(re.findall(r"^([\w.-]+)==([\w.]+)", str(resolved), flags=re.MULTILINE))
    names_to_lines = {name: f"{name}=={newest[name]}" for name in names if name in newest}
    path.write_text(
        "\n".join(names_to_lines.get(line.partition("==")[0], line) for line in lines) + "\n"
    )
    session.run("git", "--no-pager", "diff", "--stat", CONSTRAINTS, external=True)


def threads(count: int) -> dict[str, str]:
    """One thread a process: tests run several ranks, and comparisons must be even."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    return dict.fromkeys(names, str(count))

"""Every ordinary mistake is one line with exit code 2; nothing is executed, lost or left behind."""

import re

import pytest
from conftest import MODULES, ROOT
from fault_subjects import OWN, prepare
from faults import Change, common
from serving import Server

PAGE = ROOT / "docs" / "guides" / "faults.md"
LONGEST = 10.0  # seconds


@pytest.fixture(scope="session")
def servers(together, tmp_path_factory):
    made = {p: Server(together, p, tmp_path_factory.mktemp(f"server-{p}")) for p in MODULES}
    yield made
    for server in made.values():
        server.close()


@pytest.fixture(scope="session")
def subjects(servers, tmp_path_factory):
    """A trained checkpoint of each package, and one of another beside it."""
    return prepare(servers, tmp_path_factory.mktemp("subjects"))


def lay(server, fault, folder):
    for name, content in fault.files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    if isinstance(fault.before, Change):
        server.change(*fault.before, folder / "a.ckpt")
    elif fault.before:
        fault.before(folder)


def listing(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
        if "__pycache__" not in path.parts
    }


def answer(server, fault, folder):
    """Run a fault; returns what is wrong with the answer, the answer's line, and the answer."""
    lay(server, fault, folder)
    before = listing(folder)
    options = {"signal": int(fault.signal), "after": fault.after} if fault.signal else {}
    done = server.run(fault.arguments, folder, **options)
    lines = [line for line in done["err"].split("\n") if line.strip() and "\r" not in line]
    wrong = []
    if done["code"] != fault.code:
        wrong.append(f"exit code {done['code']}, expected {fault.code}")
    if len(lines) != 1:
        wrong.append(f"{len(lines)} lines")
    line = lines[-1] if lines else ""
    wrong += [f"doesn't say {said!r}" for said in fault.says if not re.search(said, line)]
    if (folder / "executed").exists():
        wrong.append("something was executed")
    after = listing(folder)
    if fault.signal is None and after != before:
        wrong.append(f"left behind or changed: {sorted(set(after) ^ set(before)) or 'a file'}")
    if done["seconds"] > LONGEST and fault.signal is None:
        wrong.append(f"took {done['seconds']:.1f} s")
    return wrong, line, done


def faults_of(package, subjects):
    subject = subjects[package]
    return [*common(subject), *OWN[package](subject)]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("package", MODULES)
def test_every_mistake_is_one_line(package, servers, subjects, tmp_path, request):
    faults = faults_of(package, subjects)
    assert len(faults) >= 40
    found, table = {}, []
    for number, fault in enumerate(faults):
        folder = tmp_path / f"{number:03d}"
        folder.mkdir()
        wrong, line, done = answer(servers[package], fault, folder)
        if wrong:
            found[fault.name] = (wrong, done["err"][-1500:])
        table.append(
            (fault.name, " ".join([package, *fault.arguments]), line.replace(str(folder), "DIR"))
        )
    if request.config.getoption("--write-page"):
        write_section(package, table)
    assert not found, "\n\n".join(f"{name}: {wrong}\n{err}" for name, (wrong, err) in found.items())
    # The page shows what the command says today.
    assert {name for name, _, _ in table} <= set(
        re.findall(r"^\| (.*?) \|", section(package), re.M)
    )


def section(package):
    if not PAGE.is_file():
        return ""
    parts = re.split(r"^## ", PAGE.read_text(encoding="utf-8"), flags=re.M)
    return next((part for part in parts if part.startswith(f"{package}\n")), "")


def write_section(package, table):
    """Write the table of one package into the page, in the order of the packages."""
    sections = {other: section(other) for other in MODULES}
    rows = [f"| {name} | `{shown(command)}` | {shown(line)} |" for name, command, line in table]
    head = "| what is wrong | command | what it answers |\n|---|---|---|"
    sections[package] = f"{package}\n\n" + "\n".join([head, *rows]) + "\n"
    intro = (
        "# Faults and their answers\n\n"
        "Every ordinary mistake, and every file that a stranger may have made, is answered in one\n"
        "line with exit code 2 (130 and 143 where a run is stopped). Nothing is executed, nothing\n"
        "is left behind. `--traceback` shows where an error arose. The tables are written by the\n"
        "test that asks for all of it: `nox -s integration -- -k mistake --write-page`.\n"
    )
    body = "".join(f"\n## {text.rstrip()}\n" for text in sections.values() if text)
    PAGE.write_text(intro + body, encoding="utf-8")


def shown(text):
    return text.replace("|", "\\|").replace("<", "&lt;").replace("{", "&#123;")

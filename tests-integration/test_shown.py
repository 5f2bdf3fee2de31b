"""Every command that a README or a guide shows is run, in its order, with less work."""

import re
import shlex

import pytest
from conftest import ERA5, MODULES, ROOT
from serving import Server

# Appended: the last word wins. The commands in full are the demo's, which runs them.
LESS = {
    "fit": ["--trainer.max_steps", "2", "--trainer.limit_val_batches", "1"],
    "example-data": ["--days", "60", "--precision", "single"],
    "negatives": ["--num_samples", "60"],
}
LESS_BY_PACKAGE = {
    ("ardm-guidance", "sample"): ["--num_samples", "20"],
    ("diffsmc", "sample"): ["--num_islands", "2", "--num_particles", "60"],
}
# Files of the reader, by package.
FILES = {
    "ardm-guidance": {
        "molecules.csv": "id;smiles\n"
        + "".join(f"{n};{'C' * (n % 7 + 1)}{'ON'[n % 2]}\n" for n in range(160))
    },
    "latentgeom": {
        "codes.csv": "0.1,0.2\n0.3,-0.1\n-0.2,0.4\n0.0,0.5\n",
        "points.csv": "".join(f"{n % 7},{n % 5},{n % 11}\n" for n in range(200)),
    },
}
# Data of others, several machines, files of the reader.
ELSEWHERE = re.compile(
    r"srun|torchrun|\$NODE|moses|qm9-full|my_|mine|ours|your|own\.|<|--source FILE|upstream"
)


def blocks(text):
    """The fenced blocks that hold command lines."""
    lines, language = [], None
    for line in text.splitlines():
        if not line.startswith("```"):
            lines.append(line)
        elif language is None:
            lines, language = [], line.removeprefix("```").strip()
        else:
            if language in {"", "bash", "console", "sh"}:
                yield "\n".join(lines)
            language = None


def commands(text, package=None):
    """Command lines of the fenced blocks, with variables of the block filled in."""
    names = [package] if package else list(MODULES)
    for block in blocks(text):
        variables = dict(re.findall(r"^\$? ?([A-Z]+)=(\S+)$", block, flags=re.M))
        for line in block.replace("\\\n", " ").splitlines():
            for name, value in variables.items():
                line = line.replace(f"${name}", value)
            line = line.removeprefix("$ ")
            if line.startswith(tuple(f"{name} " for name in names)) and not ELSEWHERE.search(line):
                yield shlex.split(line, comments=True)


def readme(package):
    return (ROOT / "packages" / package / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def servers(together, tmp_path_factory):
    made = {p: Server(together, p, tmp_path_factory.mktemp(f"shown-{p}")) for p in MODULES}
    yield made
    for server in made.values():
        server.close()


def run(servers, words, folder):
    package, verb = words[0], words[1]
    less = LESS_BY_PACKAGE.get((package, verb), LESS.get(verb, []))
    plain = {"--help", "--help_all", "--print_config"} & set(words)
    done = servers[package].run([*words[1:], *([] if plain else less)], folder, 280.0)
    assert done["code"] == 0, f"{' '.join(words)}\n{done['err'][-2000:]}"
    return done


@pytest.mark.timeout(900)
@pytest.mark.parametrize("package", MODULES)
def test_the_commands_of_a_readme_run_in_their_order(package, servers, tmp_path):
    found = list(commands(readme(package), package))
    assert found
    for name, content in FILES.get(package, {}).items():
        (tmp_path / name).write_text(content)
    if package == "neural-lam" and ERA5.is_file():
        data = f"example-data --name era5-uk --source {ERA5} --output out/neural-lam/era5-uk.zarr"
        assert servers[package].run(data.split(), tmp_path)["code"] == 0
    for words in found:
        if "era5" in " ".join(words) and (not ERA5.is_file() or words[1] == "example-data"):
            continue
        run(servers, words, tmp_path)


@pytest.mark.timeout(900)
def test_the_commands_of_the_guides_run(servers, tmp_path):
    guides = sorted((ROOT / "docs" / "guides").glob("*.md"))
    found = [
        words for path in guides if path.stem != "faults" for words in commands(path.read_text())
    ]
    assert len(found) >= 5
    started = set()
    for words in found:
        folder = tmp_path / words[0]
        folder.mkdir(exist_ok=True)
        if words[0] == "neural-lam" and words[0] not in started:
            data = "example-data --name two-layer-qg --output out/neural-lam/two-layer-qg.zarr"
            run(servers, [words[0], *data.split()], folder)
        started.add(words[0])
        cpu = [
            "--trainer.accelerator",
            "cpu",
            "--trainer.devices",
            "1",
            "--trainer.strategy",
            "auto",
        ]
        fits = words[1] == "fit" and not {"--help", "--help_all", "--print_config"} & set(words)
        extra = [*cpu, "--overwrite"] if fits else []
        run(servers, [*words, *extra], folder)


@pytest.mark.parametrize("package", MODULES)
def test_a_printed_configuration_trains(package, servers, tmp_path):
    printed = servers[package].run(["fit", "--print_config"], tmp_path)
    assert printed["code"] == 0, printed["err"]
    (tmp_path / "mine.yaml").write_text(printed["out"])
    if package == "neural-lam":
        data = "example-data --name two-layer-qg --output out/neural-lam/two-layer-qg.zarr"
        run(servers, [package, *data.split()], tmp_path)
    quick = ["--trainer.fast_dev_run", "2", "--trainer.accelerator", "cpu"]
    done = servers[package].run(["fit", "--config", "mine.yaml", *quick], tmp_path, 200.0)
    assert done["code"] == 0, done["err"][-2000:]


@pytest.mark.parametrize("package", MODULES)
def test_the_help_of_every_verb_is_there_at_once_with_own_options_first(package, servers, tmp_path):
    usage = servers[package].run(["--help"], tmp_path)["out"]
    for path in sorted(
        (ROOT / "packages" / package / "src" / MODULES[package] / "help").glob("*.txt")
    ):
        done = servers[package].run([path.stem, "--help"], tmp_path)
        assert (done["code"], done["out"]) == (0, path.read_text())
        assert done["seconds"] < 1
        assert path.stem in usage

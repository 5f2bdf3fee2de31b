"""For each package: a small configuration, a checkpoint of it, and the faults of its own verbs."""

from pathlib import Path
from typing import Any

import yaml
from faults import Fault, Subject, changed

ROOT = Path(__file__).parents[1]
FAST = {
    "accelerator": "cpu",
    "max_steps": 2,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "num_sanity_val_steps": 0,
    "limit_val_batches": 0,
    "logger": False,
    "default_root_dir": "run",
}


def _shipped(package: str, name: str) -> dict[str, Any]:
    path = ROOT / "packages" / package / "configs" / name
    content: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    checkpoints = {
        "class_path": "lightning.pytorch.callbacks.ModelCheckpoint",
        "init_args": {
            "filename": "last",
            "every_n_train_steps": 1,
            "enable_version_counter": False,
        },
    }
    content["trainer"] = {**FAST, "callbacks": [checkpoints]}
    return content


def ardm(folder: Path) -> dict[str, Any]:
    content = _shipped("ardm-guidance", "qm9.yaml")
    content["data"]["init_args"] = {"source": "qm9-sample", "batch_size": 8}
    return content


def neural_lam(folder: Path) -> dict[str, Any]:
    content = _shipped("neural-lam", "two-layer-qg.yaml")
    content["data"]["init_args"] |= {
        "path": str(folder / "data.zarr"),
        "rollout_steps": 1,
        "lead_steps": 4,
    }
    content["model"]["init_args"] |= {"curriculum": {0: 1}}
    return content


def diffsmc(folder: Path) -> dict[str, Any]:
    content = _shipped("diffsmc", "breast_cancer_potential.yaml")
    content["data"]["init_args"]["num_particles"] = 60
    content["data"]["init_args"]["batch_size"] = 16
    return content


def latentgeom(folder: Path) -> dict[str, Any]:
    content = _shipped("latentgeom", "digits-hyperbolic.yaml")
    content["data"]["init_args"]["batch_size"] = 16
    return content


CONFIGS = {
    "ardm-guidance": ardm,
    "neural-lam": neural_lam,
    "diffsmc": diffsmc,
    "latentgeom": latentgeom,
}
VERBS = {
    "ardm-guidance": (("test",), ("predict",), ("sample",), ("negatives",)),
    "neural-lam": (("test",), ("predict",), ("forecast", "--output", "f.zarr")),
    "diffsmc": (("test",), ("predict",)),
    "latentgeom": (
        ("test",),
        ("predict",),
        ("distances",),
        ("distortion",),
        ("geodesics",),
        ("plot",),
    ),
}


def prepare(servers, folder: Path) -> dict[str, Subject]:
    """Train each configuration for two steps."""
    configs, checkpoints = {}, {}
    for package, server in servers.items():
        place = folder / package
        place.mkdir()
        if package == "neural-lam":
            made = [
                "example-data",
                "--name",
                "two-layer-qg",
                "--days",
                "30",
                "--precision",
                "single",
                "--output",
                "data.zarr",
            ]
            done = server.run(made, place, 200)
            assert done["code"] == 0, done["err"][-2000:]
        configs[package] = CONFIGS[package](place)
        (place / "my.yaml").write_text(yaml.safe_dump(configs[package]))
        done = server.run(["fit", "--config", "my.yaml"], place, 120)
        assert done["code"] == 0, done["err"][-2000:]
        checkpoints[package] = place / "run" / "checkpoints" / "last.ckpt"
        assert checkpoints[package].is_file(), done
    names = list(servers)
    return {
        package: Subject(
            config=configs[package],
            option="learning_rate",
            checkpoint=checkpoints[package],
            foreign=checkpoints[names[position - 1]],
            verbs=VERBS[package],
        )
        for position, package in enumerate(names)
    }


def _own_ardm(subject: Subject) -> list[Fault]:
    files = {"my.yaml": yaml.safe_dump(subject.config), "a.ckpt": subject.checkpoint.read_bytes()}
    sample = ["sample", "--config", "my.yaml", "--ckpt_path", "a.ckpt"]
    data = subject.config["data"]["init_args"]
    return [
        Fault(
            "no samples",
            [*sample, "--num_samples", "0"],
            ("num_samples must be at least 1, got 0",),
            files,
        ),
        Fault(
            "samples in words",
            [*sample, "--num_samples", "ten"],
            ("num_samples: expected int, got ten",),
            files,
        ),
        Fault(
            "empty batches of samples",
            [*sample, "--batch_size", "0"],
            ("batch_size must be at least 1, got 0",),
            files,
        ),
        Fault(
            "samples are there already",
            sample,
            (r"run/samples\.parquet: is there already",),
            {**files, "run/samples.parquet": ""},
        ),
        Fault(
            "no checkpoint to sample", ["sample", "--config", "my.yaml"], ("ckpt_path: ",), files
        ),
        Fault(
            "guide is no discriminator",
            [*sample, "--guide", "a.ckpt"],
            (r"a\.ckpt: not a checkpoint of a discriminator",),
            files,
        ),
        Fault(
            "data file missing",
            ["fit", "--config", "my.yaml"],
            (r"mine\.csv: no such file",),
            {"my.yaml": changed(subject.config, "data.init_args", {**data, "source": "mine.csv"})},
        ),
        Fault(
            "column missing",
            ["fit", "--config", "my.yaml"],
            (r"mine\.csv: no column 'SMILES'; did you mean 'smile'",),
            {
                "my.yaml": changed(
                    subject.config, "data.init_args", {**data, "source": "mine.csv"}
                ),
                "mine.csv": "smile,x\nCCO,1\n",
            },
        ),
        Fault(
            "damaged gz",
            ["fit", "--config", "my.yaml"],
            (r"mine\.smi\.gz: ",),
            {
                "my.yaml": changed(
                    subject.config, "data.init_args", {**data, "source": "mine.smi.gz"}
                ),
                "mine.smi.gz": b"\x1f\x8b\x08\x00" + b"\x01" * 40,
            },
        ),
        Fault(
            "shares above one",
            ["fit", "--config", "my.yaml"],
            ("val|test|share",),
            {
                "my.yaml": changed(
                    subject.config, "data.init_args", {**data, "val": 0.7, "test": 0.7}
                )
            },
        ),
        Fault(
            "unknown atom type",
            ["fit", "--config", "my.yaml"],
            ("Xx|xx",),
            {"my.yaml": changed(subject.config, "model.init_args.atom_types", ["C", "Xx"])},
        ),
        Fault(
            "samples to score are missing",
            ["evaluate", "--samples", "none.parquet"],
            (r"none\.parquet: no such file",),
        ),
        Fault(
            "samples to score are empty",
            ["evaluate", "--samples", "a.smi", "--output", "o"],
            (r"a\.smi",),
            {"a.smi": ""},
        ),
        Fault("no samples given", ["evaluate"], ("samples: required",)),
        Fault(
            "a report is there already",
            ["evaluate", "--samples", "a.smi", "--output", "o"],
            (r"o/report\.json: is there already",),
            {"a.smi": "CCO\n", "o/report.json": "{}"},
        ),
    ]


def _own_neural_lam(subject: Subject) -> list[Fault]:
    config = {**subject.config, "seed_everything": 0}
    files = {"my.yaml": yaml.safe_dump(config), "a.ckpt": subject.checkpoint.read_bytes()}
    forecast = ["forecast", "--config", "my.yaml", "--ckpt_path", "a.ckpt", "--output", "f.zarr"]
    example = ["example-data", "--name", "two-layer-qg", "--output", "d.zarr"]
    return [
        Fault(
            "data missing",
            ["fit", "--config", "my.yaml"],
            (r"none\.zarr: ",),
            {"my.yaml": changed(config, "data.init_args.path", "none.zarr")},
        ),
        Fault(
            "variable missing",
            ["fit", "--config", "my.yaml"],
            ("temperature",),
            {"my.yaml": changed(config, "data.init_args.variables", ["temperature"])},
        ),
        Fault(
            "forecast over somebody's folder",
            forecast,
            (r"f\.zarr: ",),
            {**files, "f.zarr/thesis.txt": "years of work"},
        ),
        Fault("forecast without a checkpoint", forecast[:3] + forecast[5:], ("ckpt_path",), files),
        Fault("forecast without an output", forecast[:5], ("output: required",), files),
        Fault("negative days", [*example, "--days", "-3"], ("days", "-3")),
        Fault(
            "no hours between states", [*example, "--interval_hours", "0"], ("interval_hours", "0")
        ),
        Fault(
            "unknown example",
            ["example-data", "--name", "era6", "--output", "d.zarr"],
            ("name", "era6"),
        ),
        Fault(
            "example over somebody's folder",
            [*example, "--days", "1"],
            (r"d\.zarr: a folder with other files, which isn't replaced",),
            {"d.zarr/x": ""},
        ),
        Fault(
            "curriculum longer than the rollout",
            ["fit", "--config", "my.yaml"],
            ("curriculum",),
            {"my.yaml": changed(config, "model.init_args.curriculum", {0: 9})},
        ),
        Fault("verify without a forecast", ["verify", "--output", "v"], ("forecast: required",)),
        Fault(
            "forecast to verify is missing",
            ["verify", "--forecast", "none.zarr", "--output", "v"],
            (r"none\.zarr",),
        ),
        Fault(
            "frame wider than the area",
            ["fit", "--config", "my.yaml"],
            ("boundary_width",),
            {"my.yaml": changed(config, "data.init_args.boundary_width", 60)},
        ),
    ]


def _own_diffsmc(subject: Subject) -> list[Fault]:
    def sample(*words: str) -> list[str]:
        return ["sample", "--target", "diffsmc.two_modes", "--output", "r.nc", *words]

    tempering = ["--method", "diffsmc.Tempering"]
    return [
        Fault("no target", ["sample", "--output", "r.nc"], ("target: required",)),
        Fault(
            "target of that name doesn't exist",
            ["sample", "--target", "diffsmc.two_mode", "--output", "r.nc"],
            ("target", "two_mode"),
        ),
        Fault(
            "target's module doesn't exist",
            ["sample", "--target", "nowhere.logp", "--output", "r.nc"],
            ("nowhere",),
        ),
        Fault("no particles", sample("--num_particles", "0", *tempering), ("num_particles", "0")),
        Fault("no islands", sample("--num_islands", "0", *tempering), ("num_islands", "0")),
        Fault("negative seed of draws", sample("--seed", "-1", *tempering), ("seed", "-1")),
        Fault(
            "target_ess above one",
            sample(*tempering, "--method.init_args.target_ess", "2"),
            ("target_ess", "2"),
        ),
        Fault(
            "negative moves",
            sample(*tempering, "--method.init_args.num_moves", "-1"),
            ("num_moves", "-1"),
        ),
        Fault(
            "output is there already",
            sample(*tempering),
            (r"r\.nc: is there already",),
            {"r.nc": ""},
        ),
        Fault(
            "output's folder is a file",
            ["sample", "--target", "diffsmc.two_modes", "--output", "f/r.nc", *tempering],
            (r"f/r\.nc: can't be written",),
            {"f": ""},
        ),
        Fault(
            "results to compare are missing",
            ["evidence", "--results.a", "none.nc", "--output", "e"],
            (r"none\.nc",),
        ),
        Fault(
            "results to compare are junk",
            ["evidence", "--results.a", "a.nc", "--output", "e"],
            (r"a\.nc",),
            {"a.nc": "junk"},
        ),
        Fault("no results to diagnose", ["diagnose"], ("results: required",)),
    ]


def _own_latentgeom(subject: Subject) -> list[Fault]:
    files = {"my.yaml": yaml.safe_dump(subject.config), "a.ckpt": subject.checkpoint.read_bytes()}
    metric = [
        "--metric",
        "latentgeom.ConstantCurvature",
        "--metric.dim",
        "2",
        "--metric.curvature",
        "-1.0",
    ]
    points = ["distances", "--points", "p.csv", "--output", "o", *metric]
    trained = ["distances", "--config", "my.yaml", "--ckpt_path", "a.ckpt", "--output", "o"]
    return [
        Fault("points missing", points, (r"p\.csv: ",)),
        Fault("points are words", points, (r"p\.csv: ",), {"p.csv": "a,b\nc,d\n"}),
        Fault("points of another dimension", points, (r"p\.csv: ",), {"p.csv": "1,2,3\n4,5,6\n"}),
        Fault(
            "points that are no numbers", points, (r"p\.csv: ",), {"p.csv": "0.1,nan\n0.2,0.3\n"}
        ),
        Fault("one point", points, (r"point",), {"p.csv": "0.1,0.2\n"}),
        Fault(
            "chunks of none",
            [*points, "--chunk", "0"],
            ("chunk", "0"),
            {"p.csv": "0.1,0.2\n0.3,0.1\n"},
        ),
        Fault(
            "no pairs",
            ["geodesics", "--points", "p.csv", "--num_pairs", "0", "--output", "o", *metric],
            ("num_pairs", "0"),
            {"p.csv": "0.1,0.2\n0.3,0.1\n"},
        ),
        Fault(
            "no segments",
            [
                "geodesics",
                "--config",
                "my.yaml",
                "--ckpt_path",
                "a.ckpt",
                "--num_segments",
                "0",
                "--output",
                "o",
            ],
            ("num_segments", "0"),
            files,
        ),
        Fault(
            "metric of that name doesn't exist",
            ["distances", "--points", "p.csv", "--metric", "latentgeom.Spere", "--output", "o"],
            ("Spere|Sphere",),
            {"p.csv": "0.1,0.2\n0.3,0.1\n"},
        ),
        Fault(
            "curvature in words",
            [
                "distances",
                "--points",
                "p.csv",
                "--metric",
                "latentgeom.ConstantCurvature",
                "--metric.dim",
                "2",
                "--metric.curvature",
                "flat",
                "--output",
                "o",
            ],
            ("curvature", "flat"),
            {"p.csv": "0.1,0.2\n0.3,0.1\n"},
        ),
        Fault("no memory", [*trained, "--memory_gb", "0"], ("memory_gb", "0"), files),
        Fault("codes missing", [*trained, "--codes", "c.csv"], (r"c\.csv: ",), files),
        Fault(
            "no dimension",
            [
                "distances",
                "--points",
                "p.csv",
                "--metric",
                "latentgeom.ConstantCurvature",
                "--metric.dim",
                "0",
                "--metric.curvature",
                "0.0",
                "--output",
                "o",
            ],
            ("dim", "0"),
            {"p.csv": "0.1,0.2\n0.3,0.1\n"},
        ),
    ]


OWN = {
    "ardm-guidance": _own_ardm,
    "neural-lam": _own_neural_lam,
    "diffsmc": _own_diffsmc,
    "latentgeom": _own_latentgeom,
}

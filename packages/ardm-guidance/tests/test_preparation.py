import pytest
import yaml

from ardm_guidance import GraphTransformer, InputError, MoleculeAlphabet
from ardm_guidance.__main__ import main
from ardm_guidance.data.preparation import prepare
from ardm_guidance.models.networks import check_network

SMILES = [
    "CC(=O)Oc1ccccc1C(=O)O",
    "C[C@H](N)C(=O)O",
    "CC(=O)[O-].[Na+]",
    "nonsense",
    "CCS(N)(=O)=O",
]


@pytest.fixture
def source(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.csv").write_text(
        "id;smiles\n" + "\n".join(f"{i};{s}" for i, s in enumerate(SMILES))
    )
    return "own.csv"


def test_a_file_becomes_a_configuration_that_fits_it(source, tmp_path, capsys):
    prepare(source)
    told = capsys.readouterr().out
    assert "3 of 5 rows can be used" in told
    assert "1 x 2 fragments" in told
    assert "1 x not a molecule" in told
    assert "stereo removed: 1" in told
    content = yaml.safe_load((tmp_path / "prepared.yaml").read_text())
    model, data = content["model"]["init_args"], content["data"]["init_args"]
    assert set(model["atom_types"]) == {"C", "O", "N", "S"}
    assert model["max_atoms"] == 13
    network = GraphTransformer(**model["network"]["init_args"])
    check_network(network, MoleculeAlphabet(tuple(model["atom_types"]), model["max_atoms"]))
    assert (data["source"], data["column"]) == (source, "SMILES")


def test_the_largest_pieces_bring_their_atom_types(source, tmp_path):
    prepare(source, fragments="largest")
    content = yaml.safe_load((tmp_path / "prepared.yaml").read_text())
    assert "O-" in content["model"]["init_args"]["atom_types"]
    assert "Na+" not in content["model"]["init_args"]["atom_types"]


@pytest.mark.filterwarnings("ignore:.*:")
def test_prepare_and_fit_are_two_commands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.smi").write_text("\n".join(["C" * n + "O" for n in range(1, 6)] * 6))
    assert main(["prepare", "--source", "own.smi"]) == 0
    quick = ["--trainer.max_steps", "2"]
    # Thirty molecules are fewer than a batch of the shipped configuration.
    assert main(["fit", "--config", "prepared.yaml", *quick]) == 0
    assert (tmp_path / "out" / "ardm-guidance-own" / "checkpoints" / "last.ckpt").is_file()
    assert main(["prepare", "--source", "own.smi"]) == 2


def test_a_file_of_nothing_is_one_line(tmp_path):
    (tmp_path / "own.smi").write_text("nonsense\nC.C\n")
    with pytest.raises(InputError, match="no usable molecule"):
        prepare(str(tmp_path / "own.smi"), str(tmp_path / "a.yaml"))
    assert not (tmp_path / "a.yaml").exists()


@pytest.mark.parametrize(
    ("numbers", "name"),
    [
        ((7, 4, 9), "num_node_classes must be 8"),
        ((8, 5, 9), "num_edge_classes must be 4"),
        ((8, 4, 8), "max_nodes must be 9"),
    ],
)
def test_a_network_of_other_numbers_is_refused(numbers, name):
    with pytest.raises(ValueError, match=name):
        check_network(GraphTransformer(*numbers), MoleculeAlphabet())
    check_network(GraphTransformer(8, 4, 12), MoleculeAlphabet())


def test_what_a_few_large_molecules_cost_is_said(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.smi").write_text("\n".join(["C" * 8] * 30 + ["C" * 40]))
    prepare("own.smi")
    told = capsys.readouterr().out
    assert "  1 have more than 8 heavy atoms: without them (--max_atoms 8)" in told
    assert "an object takes 36 sites, now 820" in told
    prepare("own.smi", output="small.yaml", max_atoms=8)
    assert "have more than" not in capsys.readouterr().out
    (tmp_path / "own.smi").write_text("\n".join("C" * n for n in range(5, 12)))
    prepare("own.smi", output="even.yaml")
    assert "have more than" not in capsys.readouterr().out

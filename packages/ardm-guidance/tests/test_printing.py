"""``print`` of every public object is one useful line."""

import inspect
import re

import pytest
import torch

import ardm_guidance
from ardm_guidance import (
    ARDG,
    BSDG,
    FADG,
    AtomType,
    BestOf,
    CheckpointError,
    Connectivity,
    DiscreteARDM,
    DiscriminatorData,
    GraphTransformer,
    Guided,
    Hard,
    Importance,
    InputError,
    LateStart,
    MoleculeARDM,
    MoleculeData,
    MoleculeDiscriminator,
    Parallel,
    Plain,
    Product,
    Reward,
    Tempered,
    Unstrained,
    Valence,
    check,
    run,
    score,
)

pytestmark = pytest.mark.filterwarnings("ignore:Attribute")


def _network():
    return GraphTransformer(4, 4, 3, width=8, pair_width=4, num_layers=1, num_heads=1)


def _model():
    return MoleculeARDM(_network(), ["C", "N", "O", "F"], 3)


def _judge():
    return MoleculeDiscriminator(_network(), None, ["C", "N", "O", "F"], 3)


def _discriminator():
    return _judge().discriminator


def _objects():
    """One of each public class, as its users meet it."""
    model = _model()
    model.size_counts[3] = 1
    hard = Hard(Connectivity([4, 3, 2, 1]))
    reward = Reward(torch.sigmoid, 2.0)
    start = model.start(torch.arange(4), 0)
    groups = [part.view(2, 2, -1) for part in start]
    generator = torch.Generator().manual_seed(0)
    checked = [check("CC"), check("C(C")]
    return {
        "ARDG": ARDG(),
        "AtomType": AtomType("N", 1),
        "BSDG": BSDG(4),
        "BestOf": BestOf(4),
        "Checked": checked[0],
        "CheckpointError": CheckpointError("last.ckpt", "no checkpoint"),
        "Connectivity": Connectivity([4, 3, 2, 1]),
        "Discriminator": _discriminator(),
        "DiscriminatorData": DiscriminatorData(),
        "FADG": FADG(8, reweight=True),
        "GraphTransformer": _network(),
        "Guided": Guided(model.ardm(), hard),
        "Hard": hard,
        "Importance": Importance(5),
        "InputError": InputError("a.smi: empty"),
        "LateStart": LateStart(hard, 3),
        "DiscreteARDM": DiscreteARDM(model.domain, _network()),
        "MoleculeGraphs": model.domain,
        "MoleculeARDM": model,
        "MoleculeAlphabet": model.alphabet,
        "MoleculeData": MoleculeData(),
        "MoleculeDiscriminator": _judge(),
        "OrderAgnosticARDM": model.ardm(),
        "Parallel": Parallel(7),
        "Plain": Plain(),
        "Product": Product([hard, reward]),
        "Reward": reward,
        "Scores": score(checked, set()),
        "Tempered": Tempered(hard, 0.5),
        "Unstrained": Unstrained(8),
        "Valence": Valence([4, 3, 2, 1]),
        "bound": model.draw(torch.arange(2), 0),
        "run": run(model.ardm(), hard, *groups, generator=generator),
        "start": start,
    }


def test_every_public_class_is_printed():
    """Nothing new is left out; abstract ones and protocols have no objects."""
    classes = {
        name
        for name in ardm_guidance._EXPORTS
        if inspect.isclass(kind := getattr(ardm_guidance, name))
        and not inspect.isabstract(kind)
        and not getattr(kind, "_is_protocol", False)
    }
    assert classes <= set(_objects())


def test_print_is_one_useful_line():
    for name, thing in _objects().items():
        line = str(thing)
        assert "\n" not in line, name
        assert 5 < len(line) < 420, (name, len(line))
        assert " object at 0x" not in line, line
        assert "tensor(" not in line, line
        assert re.search(r"[=\d]|: |\(\)$", line), line


def test_lines_tell_what_matters():
    things = {name: str(thing) for name, thing in _objects().items()}
    assert things["Tempered"].startswith("Tempered(potential=Hard(constraint=Connectivity(")
    assert "power=0.5" in things["Tempered"]
    assert "width=8" in things["GraphTransformer"]
    assert "capacities=[4, 3, 2, 1]" in things["Valence"]
    assert things["run"].startswith("Run(sites=[2, 2, 6] int64, log_weights=[2, 2] float64, log")
    assert "source='qm9-sample'" in things["MoleculeData"]

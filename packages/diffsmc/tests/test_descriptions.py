import functools
import json
import subprocess
import sys

import torch

from diffsmc import breast_cancer
from diffsmc.methods.denoising import Diffusion
from diffsmc.methods.tempering import Tempering
from diffsmc.potentials.learned import VectorNetwork
from diffsmc.potentials.monte_carlo import MonteCarloPotential
from diffsmc.results.descriptions import describe


def test_objects_of_the_same_settings_have_one_description():
    def method(draws):
        return Diffusion(potential=MonteCarloPotential(draws), pilot=Tempering(target_ess=0.5))

    assert describe(method(16)) == describe(method(16))
    assert describe(method(16)) != describe(method(8))


def test_a_description_is_the_same_in_another_process():
    here = json.dumps([describe(Diffusion()), describe(breast_cancer())])
    program = (
        "import json; from diffsmc.results.descriptions import describe\n"
        "from diffsmc import Diffusion, breast_cancer\n"
        "print(json.dumps([describe(Diffusion()), describe(breast_cancer())]))"
    )
    there = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], check=True, capture_output=True, text=True
    )
    assert there.stdout.strip() == here
    assert " at 0x" not in here


def test_data_and_weights_tell_objects_apart():
    first = torch.arange(4.0)
    assert describe(first) == describe(first.clone())
    assert describe(first) != describe(first + 1)
    network = VectorNetwork(dim=2)
    before = describe(network)
    assert before == describe(network)
    with torch.no_grad():
        next(network.parameters()).add_(1.0)
    assert describe(network) != before


def test_functions_stand_by_name_with_what_is_bound():
    assert describe(torch.nn.functional.silu) == "torch.nn.functional.silu"
    assert describe(functools.partial(torch.clamp, min=0.0)) != describe(
        functools.partial(torch.clamp, min=1.0)
    )

import math

import pytest
import torch

from neural_lam.known_answers.two_layer import (
    TwoLayerFlow,
    energy,
    invert,
    perturbed_rest,
    potential_enstrophy,
    potential_vorticity,
    refined,
    simulate,
    step,
    streamfunction,
)

SMALL = TwoLayerFlow(num_points=32, side=6.4e6, time_step=600.0)
INVISCID = SMALL._replace(friction=0.0, dissipation=0.0)


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


def wave(flow, k, l, upper, lower):
    """A plane wave of both layers' streamfunctions, as spectral potential vorticity."""
    points = torch.arange(flow.num_points, dtype=torch.float64) * 2 * torch.pi / flow.num_points
    phase = k * points[None, :] + l * points[:, None]
    psi = torch.stack((upper * phase.cos(), lower * phase.cos()))
    return potential_vorticity(torch.fft.rfft2(psi), flow)


def coefficient(q, flow, k, l):
    return invert(q, flow)[..., l, k]


def test_inversion_undoes_the_potential_vorticity(generator):
    q = perturbed_rest(SMALL, wind=10.0, generator=generator)
    torch.testing.assert_close(
        potential_vorticity(invert(q, SMALL), SMALL), q, rtol=1e-12, atol=1e-18
    )


def test_winds_of_the_start_are_as_asked(generator):
    psi = streamfunction(perturbed_rest(SMALL, wind=12.0, generator=generator), SMALL)
    spectrum = torch.fft.rfft2(psi)
    l = 2 * torch.pi * torch.fft.fftfreq(32, SMALL.side / 32, dtype=torch.float64)[:, None]
    u = torch.fft.irfft2(1j * l * spectrum, s=(32, 32))
    assert float(u.square().mean().sqrt()) == pytest.approx(12.0, rel=1e-10)


@pytest.mark.parametrize(
    ("upper", "lower"), [(1.0, 1.0), (1.0, -1.0)], ids=["barotropic", "baroclinic"]
)
@pytest.mark.parametrize(("k", "l"), [(1, 0), (2, 1), (3, 2)])
def test_rossby_waves_have_their_dispersion(upper, lower, k, l):
    flow = INVISCID._replace(upper_wind=0.0, lower_wind=0.0)
    unit = 2 * math.pi / flow.side
    squared = unit**2 * (k**2 + l**2) + (0 if upper == lower else 1 / flow.deformation_radius**2)
    omega = -flow.beta * k * unit / squared
    q = wave(flow, k, l, upper * 1e3, lower * 1e3)
    *_, last = simulate(q, flow, interval=6000.0, num_states=11)
    phase = torch.angle(coefficient(last, flow, k, l)[0] / coefficient(q, flow, k, l)[0])
    expected = torch.tensor(-omega * 60_000.0, dtype=torch.float64)
    difference = torch.remainder(phase - expected + torch.pi, 2 * torch.pi) - torch.pi
    assert abs(float(difference)) < 1e-8


def phillips_growth(flow, k, l):
    """Growth rate by Vallis (2017), equation 9.90, for winds of +U and -U."""
    unit = 2 * math.pi / flow.side
    wind = (flow.upper_wind - flow.lower_wind) / 2
    kd2, total = 1 / flow.deformation_radius**2, unit**2 * (k**2 + l**2)
    k_beta2 = flow.beta / wind
    inside = 1 + 4 * total**2 * (total**2 - kd2**2) / (k_beta2**2 * kd2**2)
    imaginary = flow.beta / (total + kd2) * kd2 / (2 * total) * math.sqrt(max(0.0, -inside))
    return k * unit * imaginary


@pytest.mark.parametrize(("k", "l"), [(1, 0), (1, 1)])
def test_unstable_waves_grow_as_phillips_found(k, l):
    flow = INVISCID._replace(num_points=16, time_step=1200.0, upper_wind=20.0, lower_wind=-20.0)
    growth = phillips_growth(flow, k, l)
    assert growth > 0
    start = wave(flow, k, l, 1e-3, 5e-4)
    # Long enough that only the growing mode is left, then its rate.
    sizes = [
        coefficient(q, flow, k, l)[0].abs()
        for q in simulate(start, flow, interval=86_400.0, num_states=26)
    ]
    assert math.log(sizes[-1] / sizes[-2]) / 86_400.0 == pytest.approx(growth, rel=1e-4)


def test_a_stable_wave_does_not_grow():
    flow = INVISCID._replace(num_points=16, time_step=1200.0, upper_wind=20.0, lower_wind=-20.0)
    assert phillips_growth(flow, 4, 0) == 0
    sizes = [
        coefficient(q, flow, 4, 0).abs().max()
        for q in simulate(wave(flow, 4, 0, 1e-3, 1e-3), flow, interval=86_400.0, num_states=20)
    ]
    assert max(sizes) < 3 * sizes[0]


def test_inviscid_flow_conserves_energy_and_enstrophy(generator):
    flow = INVISCID._replace(upper_wind=0.0, lower_wind=0.0)
    q = perturbed_rest(flow, wind=15.0, generator=generator)
    *_, last = simulate(q, flow, interval=86_400.0, num_states=6)
    assert not torch.allclose(last.abs(), q.abs(), rtol=0.1)
    torch.testing.assert_close(energy(last, flow), energy(q, flow), rtol=1e-5, atol=0)
    total = [potential_enstrophy(state, flow).sum() for state in (q, last)]
    torch.testing.assert_close(total[1], total[0], rtol=1e-4, atol=0)


def test_conservation_improves_with_the_fourth_power_of_the_step(generator):
    flow = INVISCID._replace(upper_wind=0.0, lower_wind=0.0, beta=0.0)
    q = perturbed_rest(flow, wind=15.0, generator=generator)
    ends = []
    for time_step in (3600.0, 1800.0, 900.0, 225.0):
        *_, last = simulate(q, flow._replace(time_step=time_step), interval=21_600.0, num_states=2)
        ends.append(last)
    first, second, third = ((end - ends[3]).abs().max() for end in ends[:3])
    assert 12 < float(first / second) < 22
    assert 12 < float(second / third) < 22


def test_friction_damps_the_lower_layer_at_its_rate():
    # Without coupling (infinite deformation radius) and beta, the lower layer just decays.
    flow = INVISCID._replace(
        upper_wind=0.0, lower_wind=0.0, beta=0.0, deformation_radius=1e12, friction=1e-5
    )
    q = wave(flow, 2, 1, 1e3, 1e3)
    *_, last = simulate(q, flow, interval=60_000.0, num_states=2)
    ratio = (coefficient(last, flow, 2, 1) / coefficient(q, flow, 2, 1)).real
    expected = torch.tensor([1.0, math.exp(-0.6)], dtype=torch.float64)
    torch.testing.assert_close(ratio, expected, rtol=1e-7, atol=0)


def test_batches_are_independent(generator):
    a, b = (perturbed_rest(SMALL, wind=10.0, generator=generator) for _ in range(2))
    torch.testing.assert_close(
        step(torch.stack((a, b)), SMALL)[1], step(b, SMALL), rtol=1e-12, atol=1e-20
    )


def test_a_finer_grid_holds_the_same_field(generator):
    q = perturbed_rest(SMALL, wind=10.0, generator=generator)
    coarse = streamfunction(q, SMALL)
    fine_flow = SMALL._replace(num_points=64)
    fine = streamfunction(refined(q, 64), fine_flow)
    torch.testing.assert_close(fine[:, ::2, ::2], coarse, rtol=1e-9, atol=1e-3)
    torch.testing.assert_close(energy(refined(q, 64), fine_flow), energy(q, SMALL))


def test_a_step_that_is_too_long_is_reported(generator):
    flow = SMALL._replace(time_step=21_600.0, dissipation=0.0)
    q = perturbed_rest(flow, wind=60.0, generator=generator)
    with pytest.raises(FloatingPointError, match="non-finite"):
        list(simulate(q, flow, interval=43_200.0, num_states=60))
    with pytest.raises(ValueError, match="multiple of the time step"):
        next(simulate(q, flow, interval=30_000.0, num_states=2))

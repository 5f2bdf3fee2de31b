import pytest
import torch

from latentgeom.metrics import constant_curvature as cc
from latentgeom.metrics.charts import Scaled
from latentgeom.metrics.explicit import ConstantCurvature, Euclidean
from latentgeom.reports.evaluation import (
    distortion,
    induced_geodesics,
    principal_report,
    random_pairs,
)


@pytest.fixture
def codes(generator):
    return torch.randn(60, 2, generator=generator) * 0.6


@pytest.fixture
def pairs(generator):
    return random_pairs(60, 80, generator=generator)


def score(decode, metric, codes, pairs):
    ends = codes[pairs[:, 0]], codes[pairs[:, 1]]
    return distortion(decode, metric, codes, induced_geodesics(decode, metric, *ends))


def test_pairs_join_different_codes(pairs):
    assert (pairs[:, 0] != pairs[:, 1]).all()
    assert pairs.min() >= 0
    assert pairs.max() < 60
    with pytest.raises(ValueError, match="at least 2 codes"):
        random_pairs(1, 3, generator=torch.Generator())


def test_an_isometric_decoder_has_no_distortion(codes, pairs):
    decode = lambda z: 3 * cc.tangent_to_ambient(z, 1.0)  # noqa: E731
    report = score(decode, ConstantCurvature(2, 1.0), codes, pairs)
    assert report.distortion == pytest.approx(1, abs=1e-6)
    assert report.correlation == pytest.approx(1, abs=1e-10)
    assert report.condition_p95 == pytest.approx(1, abs=1e-6)
    assert report.log_scale_sd < 1e-7
    assert report.ratio_variation < 1e-6
    assert report.correlation_euclidean < 0.9999
    straight = (codes[pairs[:, 0]] - codes[pairs[:, 1]]).norm(dim=-1)
    ratio = ConstantCurvature(2, 1.0).dist(codes[pairs[:, 0]], codes[pairs[:, 1]]) / straight
    assert report.distortion_euclidean == pytest.approx(float(ratio.max() / ratio.min()))
    assert report.converged == 1


def test_a_linear_decoder_has_the_distortion_of_its_singular_values(codes, pairs):
    report = score(lambda z: z * torch.tensor([1.0, 3.0]), Euclidean(2), codes, pairs)
    assert report.condition_median == pytest.approx(3)
    assert 2.5 < report.distortion <= 3 + 1e-9
    assert report.distortion_euclidean == pytest.approx(report.distortion)
    assert report.log_scale_sd < 1e-12


def test_the_worst_codes_are_where_the_decoder_bends(codes, pairs):
    decode = lambda z: torch.cat([z, z[..., :1].square()], -1)  # noqa: E731
    report = score(decode, Euclidean(2), codes, pairs)
    expected = codes[:, 0].abs().argsort(descending=True)[:5]
    assert report.worst == expected.tolist()


def test_reports_take_any_metric(codes, pairs):
    chosen = Euclidean(2)
    induced = Scaled(ConstantCurvature(2, 0.04), 2.0)
    ends = codes[pairs[:, 0]], codes[pairs[:, 1]]
    batch = induced_geodesics(induced, chosen, *ends)
    report = distortion(induced, chosen, codes, batch)
    assert report.converged == 1
    ratio = induced.dist(*ends) / chosen.dist(*ends)
    assert report.distortion == pytest.approx(float(ratio.max() / ratio.min()))
    swapped = distortion(chosen, induced, codes, induced_geodesics(chosen, induced, *ends))
    assert swapped.condition_median == pytest.approx(report.condition_median)
    assert swapped.distortion == pytest.approx(report.distortion)


def test_principal_components_are_a_baseline(codes, pairs, generator):
    turn = torch.linalg.qr(torch.randn(7, 7, generator=generator))[0]
    flat = lambda z: 4 * z @ turn[:, :2].mT + 5  # noqa: E731
    ends = codes[pairs[:, 0]], codes[pairs[:, 1]]
    batch = induced_geodesics(flat, Euclidean(2), *ends)
    x = flat(codes)
    report = principal_report(x, pairs, batch, 2)
    assert report.distortion == pytest.approx(1)
    assert report.correlation == pytest.approx(1)
    assert report.reconstruction < 1e-20
    off = torch.where(torch.arange(60) % 2 == 0, 0.1, -0.1)[:, None] * turn[:, 6]
    off = off - off.mean(0)
    lost = principal_report(x + off, pairs, batch, 2).reconstruction
    assert lost == pytest.approx(0.01, rel=0.05)
    longer = batch._replace(length=batch.length * torch.linspace(1, 2, len(pairs)))
    assert 1.5 < principal_report(x, pairs, longer, 2).distortion <= 2 + 1e-9

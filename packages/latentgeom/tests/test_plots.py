import torch

from latentgeom.metrics.explicit import ConstantCurvature
from latentgeom.reports.evaluation import induced_geodesics
from latentgeom.reports.plots import LatentPlane, _circles, draw_latent_plane, poincare_disc, save

METRIC = ConstantCurvature(2, -1.0)


def plane(generator):
    codes = torch.randn(40, 2, generator=generator)
    decode = lambda z: torch.cat([z, torch.sinh(z)], -1)  # noqa: E731
    return LatentPlane(decode, METRIC, 1.0, codes, torch.arange(40) % 10)


def test_indicatrices_are_unit_circles_of_the_metric(generator):
    centres = torch.randn(6, 2, generator=generator)
    tensor = METRIC.metric_tensor(centres)
    offsets = torch.from_numpy(_circles(tensor, centres, 0.3)) - centres[:, None]
    norms = torch.einsum("bmi,bij,bmj->bm", offsets, tensor, offsets).sqrt()
    torch.testing.assert_close(norms, torch.full_like(norms, 0.3))


def test_the_disc_shows_the_same_geometry(generator, tmp_path):
    flat = plane(generator)
    batch = induced_geodesics(flat.decode, METRIC, flat.codes[:3], flat.codes[3:6])
    disc, moved = poincare_disc(flat, batch, -1.0)
    assert disc.codes.norm(dim=-1).max() < 1
    torch.testing.assert_close(disc.decode(disc.codes), flat.decode(flat.codes))
    tensor = disc.metric.metric_tensor(disc.codes)
    round_ones = tensor[:, :1, :1] * torch.eye(2)
    torch.testing.assert_close(tensor, round_ones, rtol=1e-8, atol=1e-8)
    save(draw_latent_plane(disc, moved, "disc"), tmp_path / "disc.png")
    assert (tmp_path / "disc.png").stat().st_size > 20_000

import pytest
import torch

from latentgeom.metrics.charts import Scaled, half_plane, poincare_ball, poincare_ellipsoid
from latentgeom.metrics.explicit import (
    ConstantCurvature,
    Euclidean,
    Product,
    hyperbolic,
    sphere,
)
from latentgeom.metrics.spd import PositiveDefinite

SHAPE = torch.tensor([[1.5, 0.3], [0.3, 0.8]], dtype=torch.float64)
METRICS = {
    "euclidean": lambda: Euclidean(3),
    "sphere": lambda: sphere(3, 2**0.5),
    "hyperbolic": lambda: hyperbolic(2, -1.3),
    "scaled": lambda: Scaled(ConstantCurvature(2, -1.0), 2.5),
    "product": lambda: Product([ConstantCurvature(2, -1.0), Euclidean(1)]),
    "poincare_ball": lambda: poincare_ball(3, -0.7),
    "half_plane": lambda: half_plane(2),
    "positive_definite": lambda: PositiveDefinite(2),
    "poincare_ellipsoid": lambda: poincare_ellipsoid(SHAPE),
}  # fmt: skip


@pytest.fixture(params=METRICS)
def metric(request):
    return METRICS[request.param]()


def points(metric, generator, count=3):
    draw = torch.randn(count, 40, metric.dim, generator=generator) * 0.7
    return metric.projx(draw)


def test_exponential_inverts_logarithm(metric, generator):
    a, b, _ = points(metric, generator)
    velocity = metric.logmap(a, b)
    torch.testing.assert_close(metric.expmap(a, velocity), b, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(metric.norm(a, velocity), metric.dist(a, b))


def test_distance_is_symmetric_and_obeys_the_triangle_inequality(metric, generator):
    a, b, c = points(metric, generator)
    torch.testing.assert_close(metric.dist(a, b), metric.dist(b, a))
    assert (metric.dist(a, c) <= metric.dist(a, b) + metric.dist(b, c) + 1e-12).all()
    assert torch.equal(metric.dist(a, a), torch.zeros(40))


def test_transport_is_an_isometry_and_reversible(metric, generator):
    a, b, _ = points(metric, generator)
    u, v = torch.randn(2, 40, metric.dim, generator=generator)
    moved_u, moved_v = metric.transp(a, b, u), metric.transp(a, b, v)
    torch.testing.assert_close(metric.inner(b, moved_u, moved_v), metric.inner(a, u, v))
    torch.testing.assert_close(metric.transp(b, a, moved_u), u)


def test_geodesics_have_constant_speed_and_tile_the_distance(metric, generator):
    a, b, _ = points(metric, generator)
    curve = metric.geodesic(a, b, torch.linspace(0, 1, 5))
    torch.testing.assert_close(curve[:, 0], a)
    torch.testing.assert_close(curve[:, -1], b)
    steps = metric.dist(curve[:, 1:], curve[:, :-1])
    expected = (metric.dist(a, b) / 4).unsqueeze(-1).expand_as(steps)
    torch.testing.assert_close(steps, expected, rtol=1e-8, atol=1e-10)


def test_metric_tensor_is_the_second_order_of_the_distance(metric, generator):
    a, _, _ = points(metric, generator)
    v = torch.randn(40, metric.dim, generator=generator)
    step = 1e-4
    square = (metric.dist(a - step * v / 2, a + step * v / 2) / step).square()
    torch.testing.assert_close(square, metric.inner(a, v, v), rtol=1e-6, atol=1e-9)


def test_volume_is_the_root_of_the_determinant(metric, generator):
    a, _, _ = points(metric, generator)
    torch.testing.assert_close(metric.log_volume(a), torch.logdet(metric.metric_tensor(a)) / 2)


def test_frame_is_orthonormal(metric, generator):
    a, _, _ = points(metric, generator)
    frame = metric.orthonormal_frame(a)
    identity = torch.eye(metric.dim).expand_as(frame)
    torch.testing.assert_close(frame.mT @ metric.metric_tensor(a) @ frame, identity)


def test_decoder_features_tell_points_apart(metric, generator):
    a, b, _ = points(metric, generator)
    assert ((metric.features(a) - metric.features(b)).norm(dim=-1) > 1e-3 * metric.dist(a, b)).all()


def test_learnt_curvature_gets_its_gradient(generator):
    metric = ConstantCurvature(2, -1.0, learnable=True)
    a, b, _ = points(metric, generator)
    metric.dist(a, b).sum().backward()
    assert metric.curvature.grad < 0


def test_spaces_have_their_names():
    assert sphere(3, radius=2.0).curvature == 0.25
    assert hyperbolic(2, -0.5).curvature == -0.5


@pytest.mark.parametrize("name", METRICS)
def test_points_of_the_chart_pass_the_check(generator, name):
    metric = METRICS[name]()
    z = metric.projx(torch.randn(50, metric.dim, generator=generator))
    assert torch.equal(metric.check(z), z)


def test_points_outside_of_a_chart_are_refused():
    with pytest.raises(ValueError, match="must lie inside the chart, got 1 outside, the first at"):
        poincare_ball(2).check(torch.tensor([[0.1, 0.2], [0.9, 0.8]]))
    with pytest.raises(ValueError, match="must lie inside the chart, got 1 outside"):
        half_plane().check(torch.tensor([[0.1, 0.2], [0.9, -0.8]]))
    with pytest.raises(ValueError, match="must have 2 coordinates"):
        half_plane().check(torch.zeros(3))


def test_impossible_metrics_are_refused():
    with pytest.raises(ValueError, match="radius must be positive"):
        sphere(2, 0.0)
    with pytest.raises(ValueError, match="hyperbolic space must be negative, got 1"):
        hyperbolic(2, 1.0)
    with pytest.raises(ValueError, match="curvature must be finite"):
        ConstantCurvature(2, float("nan"))
    with pytest.raises(ValueError, match="must be negative, got 1"):
        poincare_ball(2, 1.0)
    with pytest.raises(ValueError, match="symmetric positive definite"):
        poincare_ellipsoid(torch.tensor([[1.0, 2.0], [2.0, 1.0]]))
    with pytest.raises(ValueError, match="scale must be positive"):
        Scaled(Euclidean(2), 0.0)

import numpy as np
import pytest
import torch
import xarray as xr

from neural_lam.fields.features import Feature
from neural_lam.graphs.construction import Grid, Icosahedral, Rectangular
from neural_lam.verification.plots import draw_graph, draw_maps, draw_scores, save_figure

LEADS = np.array([6, 12], "timedelta64[h]").astype("timedelta64[ns]")


@pytest.fixture
def fields():
    rng = np.random.default_rng(0)
    coordinates = {
        "prediction_timedelta": LEADS,
        "latitude": np.linspace(58, 50, 9),
        "longitude": np.linspace(-10, 2, 13),
    }
    draw = lambda: xr.DataArray(rng.standard_normal((2, 9, 13)), coordinates)  # noqa: E731
    return draw(), draw()


def test_maps_share_their_scales_and_centre_the_error(fields):
    figure = draw_maps(*fields, width=2, title="t", unit="m")
    limits = [axes.collections[0].get_clim() for axes in figure.axes[:6]]
    assert len({limits[i] for i in (0, 1, 3, 4)}) == 1
    assert limits[2] == limits[5]
    assert limits[2][0] == -limits[2][1]
    # A store from north to south is drawn north up, its frame inside the map.
    for axes in figure.axes[:6]:
        bottom, top = axes.get_ylim()
        assert bottom < top
        box = axes.patches[0].get_bbox()
        assert (round(box.xmin, 6), round(box.xmax, 6)) == (-8.5, 0.5)
        assert (round(min(box.ymin, box.ymax), 6), round(max(box.ymin, box.ymax), 6)) == (
            51.5,
            56.5,
        )


def test_curves_show_every_forecast(tmp_path):
    dims = ("forecast", "prediction_timedelta", "feature")
    rmse = np.arange(1.0, 9.0).reshape(2, 2, 2)
    variables = {"rmse": rmse, "rmse_lower": rmse - 0.5, "rmse_upper": rmse + 0.5}
    coordinates = {"forecast": ["model", "persistence"], "prediction_timedelta": LEADS}
    scores = xr.Dataset(
        {name: (dims, value) for name, value in variables.items()},
        {**coordinates, "feature": ["a_250", "b"]},
    )
    figure = draw_scores(scores, ["m", "K"])
    for position, axes in enumerate(figure.axes):
        drawn = np.stack([line.get_ydata() for line in axes.lines])
        np.testing.assert_array_equal(drawn, rmse[:, :, position])
        assert axes.get_ylabel() == ["RMSE (m)", "RMSE (K)"][position]
        assert axes.get_title() == ["a 250", "b"][position]
    features = [
        Feature("a", 250, "m", "height", level_units="hPa"),
        Feature("b", None, "K", "warmth"),
    ]
    named = draw_scores(scores, ["m", "K"], [feature.title for feature in features])
    assert [axes.get_title() for axes in named.axes] == ["height at 250 hPa", "warmth"]
    save_figure(figure, str(tmp_path / "scores.png"))
    assert (tmp_path / "scores.png").read_bytes().startswith(b"\x89PNG")
    assert len(list(tmp_path.iterdir())) == 1


def drawn(graph):
    return [len(axes.collections[0].get_segments()) for axes in draw_graph(graph).axes]


@pytest.mark.parametrize("hierarchical", [False, True])
def test_a_graph_is_drawn_with_all_its_edges(hierarchical):
    y, x = torch.meshgrid(torch.arange(18), torch.arange(21), indexing="ij")
    grid = Grid(torch.stack((x, y), -1).reshape(-1, 2).double(), (18, 21))
    graph = Rectangular(hierarchical=hierarchical).build(grid)
    sets = (graph.g2m, *graph.m2m, *graph.up, graph.m2g)
    assert drawn(graph) == [len(edges.senders) for edges in sets]


def test_a_graph_on_the_sphere_is_cut_at_the_date_line():
    latitude, longitude = torch.meshgrid(
        torch.linspace(-80, 80, 9), torch.arange(0, 360, 20.0), indexing="ij"
    )
    latitude, longitude = latitude.flatten().double(), longitude.flatten().double()
    grid = Grid(torch.stack((longitude, latitude), 1), None, latitude, longitude)
    graph = Icosahedral(1, num_levels=1).build(grid)
    figure = draw_graph(graph)
    counts = [len(axes.collections[0].get_segments()) for axes in figure.axes]
    sets = (graph.g2m, *graph.m2m, graph.m2g)
    assert all(0 < n < len(edges.senders) for n, edges in zip(counts, sets, strict=True))
    for axes in figure.axes:
        ends = np.stack(axes.collections[0].get_segments())
        assert np.abs(ends[:, 0, 0] - ends[:, 1, 0]).max() < 180
        assert np.abs(ends[..., 1]).max() <= 90


def test_a_forecast_that_blows_up_leaves_the_picture_to_the_others():
    dims = ("forecast", "prediction_timedelta", "feature")
    rmse = np.array([[[4.0], [100.0]], [[15.0], [150.0]], [[5.0], [4e5]]])
    names = ["model", "persistence", "unstable"]
    scores = xr.Dataset(
        dict.fromkeys(("rmse", "rmse_lower", "rmse_upper"), (dims, rmse)),
        {"forecast": names, "prediction_timedelta": LEADS, "feature": ["a"]},
    )
    top = draw_scores(scores, ["m"]).axes[0].get_ylim()[1]
    assert 150 < top < 200
    scores["rmse"][0] = 1e6
    assert draw_scores(scores, ["m"]).axes[0].get_ylim()[1] > 1e6

"""The pointing game's phantoms, hits and verdicts."""

import numpy as np
import pytest
import torch
from finished_run import Run
from torch import Tensor, nn

from analysis.judge.attention import SIDE
from analysis.judge.pointing import (
    COARSEST,
    PHANTOMS,
    area_share,
    find_strongest,
    judge,
    lies_in,
    phantoms_shown,
    play,
    why_not_played,
)
from cohort.drawing.polar_map import canvas
from cohort.drawing.single_vessel import draw_single_vessel
from cohort.segments import TERRITORIES, indices_of
from spaces.run_files import read_json, write_json
from trainable.model import Model
from trainable.network import PolarNetwork

FEW = 6
"""Random heads in these tests."""


def spot(*segments: int) -> np.ndarray:
    """Return a field that is 1 in these segments (0-based), else 0."""
    return np.isin(canvas(SIDE).segment, segments).astype(float)


def find_hits(fields: np.ndarray, territory: str) -> np.ndarray:
    """Return which of the fields (n, h, w) of one map and no random head hit."""
    return lies_in(find_strongest(fields[None, :, None])[0, :, 0], territory)


@pytest.mark.parametrize("territory", TERRITORIES)
def test_a_hit_lies_in_the_territory(territory: str) -> None:
    fields = np.stack([spot(at) for at in range(17)])
    expected = np.isin(np.arange(17), indices_of(territory))
    assert (find_hits(fields, territory) == expected).all()


def test_what_speaks_against_the_disease_is_no_hit() -> None:
    """Attention is signed: the strongest point is the highest, not the largest in size."""
    field = spot(*indices_of("RCA")) * -5 + spot(*indices_of("LAD"))
    assert find_hits(field[None], "LAD").all()
    assert not find_hits(field[None], "RCA").any()


def test_what_lies_outside_the_disc_or_is_the_same_everywhere_does_not_point() -> None:
    corner = spot(*indices_of("LCx"))
    corner[:4, :4] = 9.0
    assert find_hits(corner[None], "LCx").all()
    assert not find_hits(np.ones((1, 7, 7)), "LAD").any()


def test_area_shares_fill_the_disc() -> None:
    shares = {name: area_share(name) for name in TERRITORIES}
    assert sum(shares.values()) == pytest.approx(1)
    # Basal segments cover (1 - .75^2) / 6 of the disc, mid (.75^2 - .5^2) / 6, apical .1875 / 4.
    assert shares["RCA"] == pytest.approx(2 * 0.4375 / 6 + 2 * 0.3125 / 6 + 0.1875 / 4, abs=0.01)


def some_hits(model: int, random_head: float, elsewhere: float) -> dict[str, np.ndarray]:
    """Return hits of RCA by diseased vessel: of 40 phantoms each, by the model and one head."""
    counts = {"RCA": (model, random_head * 40), "LAD": (elsewhere * 40, 0), "LCx": (0, 40)}
    return {
        vessel: np.stack([np.arange(40) < count for count in its])[..., None]
        for vessel, its in counts.items()
    }


@pytest.mark.parametrize(
    ("hits", "random_head", "elsewhere", "claimed"),
    [
        (40, 0.1, 0.1, True),
        (40, 0.95, 0.1, False),
        (12, 0.0, 0.0, False),
        (0, 0.0, 0.0, False),
        (24, 0.1, 0.8, True),  # 24 reach down to .433; a rate of .4 over both other vessels
        (24, 0.1, 0.9, False),  # .45
    ],
)
def test_a_claim_needs_a_lower_bound_above_chance_random_heads_and_other_vessels(
    hits: int, random_head: float, elsewhere: float, claimed: bool
) -> None:
    """Of 40: 40 hits reach down to .912; 12 (the share is .30) do not exceed chance."""
    [row] = judge("RCA", some_hits(hits, random_head, elsewhere), ["reserve"], 0.95)
    assert (row["hits"], row["claimed"]) == (hits, claimed)
    assert row["random_head"] == pytest.approx(random_head)
    assert row["other_vessels"] == pytest.approx(elsewhere / 2)
    if hits == 40:
        assert row["low"] == pytest.approx(0.025 ** (1 / 40))


@pytest.mark.parametrize("vessel", TERRITORIES)
def test_single_vessel_phantoms_show_their_stenosis_where_it_is(vessel: str) -> None:
    """The diseased territory is darker than the others in every phantom, and drawn alike again."""
    maps = draw_single_vessel(vessel, 8, size=48, inputs=["reserve", "rest"])
    assert maps["reserve"].shape == (8, 3, 48, 48)
    assert (
        maps["reserve"] == draw_single_vessel(vessel, 8, size=48, inputs=["reserve"])["reserve"]
    ).all()
    level = maps["reserve"].transpose(0, 2, 3, 1) @ np.array([0.299, 0.587, 0.114])
    segment = canvas(48).segment
    inside = np.isin(segment, indices_of(vessel))
    darker = level[:, inside].mean(axis=1) / level[:, (segment >= 0) & ~inside].mean(axis=1)
    assert (darker < 0.85).all()


def test_the_game_is_played_only_where_it_says_something(run: Run) -> None:
    """The small study has a table of patients, a column as target and maps of 32 pixels."""
    assert "phantoms only" in str(why_not_played(run.study, run.cohort))
    (run.cohort.folder / "truth.json").write_text("{}")
    assert "no sign" in str(why_not_played(run.study, run.cohort))
    run.edit_study("target: impaired", "target: low\n  derive: {low: {below: 2.0}}")
    assert "too coarse" in str(why_not_played(run.study, run.cohort))
    assert phantoms_shown(run.study, run.cohort) == 0
    run.edit_study("image_size: 32", "image_size: 96")
    assert why_not_played(run.study, run.cohort) is None
    assert phantoms_shown(run.study, run.cohort) == 3 * PHANTOMS
    run.edit_study("[reserve]", "[unknown]")
    assert "no such maps" in str(why_not_played(run.study, run.cohort))


ANTERIOR = np.linspace(1, 0, 12)[:, None].repeat(12, axis=1)  # the higher up, the stronger


class Fixed(nn.Module):
    """Sees the same in every image."""

    where: Tensor

    def __init__(self, where: np.ndarray) -> None:
        super().__init__()
        self.register_buffer("where", torch.from_numpy(np.stack([where, 0 * where])).float())

    def forward(self, seen: Tensor) -> Tensor:
        return 0 * seen + self.where


class Looking(nn.Module):
    """Looks at low flow, which is dark but not black; or always at the same place.

    The maps are averaged over 8 x 8 pixels, so that attention has 12 x 12 cells.
    """

    def __init__(self, where: np.ndarray | None) -> None:
        super().__init__()
        self.colour = nn.Conv2d(3, 2, 1)
        self.coarsen = nn.AvgPool2d(8)
        self.choose = nn.Identity() if where is None else Fixed(where)
        self.last = nn.Conv2d(2, 2, 1, bias=False)
        self.pool = nn.AdaptiveAvgPool2d(1)
        # The colour table's luma rises with the flow, and its blue is never below 24. What is seen
        # is (colour - 127) / 128, as the backbone wants it.
        luma, blue = torch.tensor([0.299, 0.587, 0.114]), torch.tensor([0.0, 0.0, 1.0])
        with torch.no_grad():
            self.colour.weight.copy_(-torch.stack([luma, blue]).view(2, 3, 1, 1))
            self.colour.bias.copy_((torch.tensor([160.0, 20.0]) - 127) / 128)
            self.last.weight.copy_(torch.tensor([[1.0, -16.0], [0.0, 1.0]]).view(2, 2, 1, 1))

    def forward(self, image: Tensor) -> Tensor:
        seen = self.choose(self.coarsen(torch.relu(self.colour(image))))
        return torch.flatten(self.pool(self.last(seen)), 1)


def looking(where: np.ndarray | None = None) -> Model:
    network = PolarNetwork(Looking(where), 2, 1, "_fc")
    with torch.no_grad():
        network.classifier.weight.zero_()
        network.classifier.weight[18, 0] = 1.0
    info = {"backbone": "efficientnet_lite0", "image_size": COARSEST, "stack": "late"}
    return Model(network.eval(), info | {"inputs": ["reserve"]}, "cpu")


@pytest.fixture(scope="module")
def phantoms() -> dict[str, dict[str, np.ndarray]]:
    return {
        vessel: draw_single_vessel(vessel, PHANTOMS, size=COARSEST, inputs=["reserve"])
        for vessel in TERRITORIES
    }


@pytest.fixture
def played(run: Run, phantoms, monkeypatch):
    """Return a function that lets a model play and returns the rows of its territories."""
    (run.cohort.folder / "truth.json").write_text("{}")
    run.edit_study("image_size: 32", f"image_size: {COARSEST}")
    run.edit_study("target: impaired", "target: low\n  derive: {low: {below: 2.0}}")
    drawn = "analysis.judge.pointing.draw_single_vessel"
    monkeypatch.setattr(drawn, lambda vessel, count, **_: phantoms[vessel])
    monkeypatch.setattr("analysis.judge.pointing.HEADS", FEW)
    run.files.model.mkdir()
    write_json(run.files.model / "model.json", "model", {"sha256": "a" * 64})

    def let_play(model: Model) -> dict[str, dict[str, object]]:
        monkeypatch.setattr("trainable.model.load_model", lambda _: model)
        play(run.files, run.study, run.cohort)
        content = read_json(run.files.pointing, "pointing")
        assert content["heads"] == FEW
        return {row["territory"]: row for row in content["rows"]}

    return let_play


def test_a_model_that_looks_at_low_flow_finds_every_vessel(played) -> None:
    rows = played(looking())
    assert list(rows) == list(TERRITORIES)
    for row in rows.values():
        assert row["claimed"]
        assert row["hits"] >= 36
        assert row["other_vessels"] < 0.1
        assert row["n"] == PHANTOMS


def test_a_model_that_always_looks_at_the_same_place_finds_nothing(played) -> None:
    """It hits every phantom of LAD; that it hits all others too is what gives it away."""
    rows = played(looking(ANTERIOR))
    assert rows["LAD"]["hits"] == PHANTOMS
    assert rows["LAD"]["low"] > max(rows["LAD"]["area_share"], rows["LAD"]["random_head"])
    assert rows["LAD"]["other_vessels"] == 1
    assert not any(row["claimed"] for row in rows.values())


def test_a_study_of_one_territory_is_shown_the_other_vessels_too(played, run: Run) -> None:
    run.edit_study("{below: 2.0}", "{below: 2.0, segments: RCA}")
    [row] = played(looking(ANTERIOR[::-1])).values()  # inferior
    assert (row["territory"], row["hits"], row["other_vessels"]) == ("RCA", PHANTOMS, 1)


def test_a_game_is_played_once_and_anew_by_another_model(played, run: Run) -> None:
    rows = played(looking())
    before = run.files.pointing.read_bytes()
    played(None)  # nothing is computed
    assert run.files.pointing.read_bytes() == before
    content = {"model": "b" * 64, "heads": FEW, "rows": list(rows.values())}
    write_json(run.files.pointing, "pointing", content)
    played(looking())
    assert run.files.pointing.read_bytes() == before

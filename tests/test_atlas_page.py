"""The atlas page: self-contained, readable, and its numbers are those of the posture code."""

from __future__ import annotations

import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from atlas_cases import SETTINGS, SHARES, known, stick_table

from dpose_yolo.commands.clusters import tried_numbers
from dpose_yolo.engine.postures import bic_curve, posture_plan
from dpose_yolo.errors import DPoseError
from dpose_yolo.posture.mixture import PostureMixture
from dpose_yolo.report import atlas_page, page
from dpose_yolo.report.atlas_page import Shown, examples, save_atlas_page
from dpose_yolo.report.drawing import limbs
from dpose_yolo.report.svg import Skeletons
from dpose_yolo.report.tables import cluster_table, members

VOID = {"meta", "img", "br", "ellipse", "line", "path", "polyline"}


class Page(HTMLParser):
    """Reads a page: every tag is closed in order, and what it holds can be asked."""

    def __init__(self, text: str):
        super().__init__()
        self.open: list[str] = []
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" in self.open:
            return
        self.text += data
        if self.open and {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data

    def values(self, name: str) -> list[str]:
        return [str(attributes[name]) for _, attributes in self.attributes if name in attributes]


def write(folder: Path, images: bool = True, **more: object) -> tuple[Page, pd.DataFrame, PostureMixture]:
    table, names = stick_table(folder)
    mixture, plan = known(table, names)
    frame = cluster_table(table, mixture, plan, names)
    view = Shown(table, str(folder), names, images=images)
    path = save_atlas_page(folder / "atlas.html", "<b> & set", view, mixture, frame, **more)  # type: ignore[arg-type]
    return Page(path.read_text(encoding="utf-8")), frame, mixture


def test_the_page_needs_no_server_and_no_network(tmp_path: Path) -> None:
    read, _, _ = write(tmp_path)
    text = (tmp_path / "atlas.html").read_text(encoding="utf-8")
    plain = re.sub(r"data:image/jpeg;base64,[\w+/=]+", "", text)
    assert not re.search(r"https?:|//|url\(|@import|<script|<link", plain)
    sources = read.values("src")
    assert sources
    assert all(source.startswith("data:image/jpeg;base64,") for source in sources)
    assert all(link.startswith("#") for link in read.values("href"))
    assert set(link[1:] for link in read.values("href")) <= set(read.values("id"))
    assert "default-src 'none'" in text
    assert read.text.count("<b> & set") >= 2  # a title is text, not tags


def test_pictures_can_be_kept_out(tmp_path: Path) -> None:
    read, _, _ = write(tmp_path, images=False)
    assert read.tags["img"] == 0
    assert read.tags["article"] == len(SHARES)


def test_every_posture_with_shares_draws_and_names(tmp_path: Path) -> None:
    read, frame, _ = write(tmp_path)
    shares = {row[0]: row for row in read.rows if len(row) == 8}
    total = sum(SHARES.values())
    for j, (name, count) in enumerate(SHARES.items()):
        row = shares[str(j)]
        assert f"posture-{j}" in read.values("id")
        assert row[1] == f"{name} (100\u00a0%)"
        assert row[2] == str(count)
        assert row[3] == f"{100 * count / total:.1f}\u00a0%"  # the clusters are the planted postures
        assert row[4] == "25.0\u00a0%"  # balance=1: even
        assert row[6] == f"{total / 4:.0f}"
        assert float(row[7]) == pytest.approx(total / 4 / count, abs=0.06)
        assert frame.loc[j, "draws"] == pytest.approx(total / 4, abs=0.1)
    bars = [float(v) for style in read.values("style") for v in re.findall(r"width:([\d.]+)%", style)]
    assert bars[0] == 100.0  # the largest share of all
    assert bars[1] == pytest.approx(100 * 0.25 / (30 / 52), abs=0.5)


def test_least_likely_poses_come_first_by_name(tmp_path: Path) -> None:
    table, names = stick_table(tmp_path)
    mixture, _ = known(table, names)
    table.keypoints[40, 9, :2] = (2, 90)  # a wrist at the wrong place
    frame = cluster_table(table, mixture, posture_plan(table, mixture, SETTINGS), names)
    save_atlas_page(tmp_path / "a.html", "set", Shown(table, str(tmp_path), names), mixture, frame)
    read = Page((tmp_path / "a.html").read_text(encoding="utf-8"))
    odd = [row for row in read.rows if row and row[0].endswith(".png")]
    assert odd[0][0] == "im_040.png"
    scores = [float(row[2]) for row in odd]
    own = members(table, mixture)
    assert scores == sorted(scores)
    assert scores == pytest.approx(np.sort(own.score)[: len(scores)], abs=0.006)


def test_spread_of_the_drawing_is_that_of_the_mixture(tmp_path: Path) -> None:
    table, names = stick_table()
    mixture, _ = known(table, names)
    skeletons = Skeletons(mixture, table.names, limbs(table.names))
    assert skeletons.deviations(2) == pytest.approx(np.full((17, 2), 0.05))
    drawn = Page(skeletons.draw(2, "third", np.array([0.2, *[1.0] * 16])))
    radii = {float(r) for r in drawn.values("rx") + drawn.values("ry")}
    reach = (skeletons.high - skeletons.low).max(1) / 2
    zoom = (220 / 2 - 8) / max(np.quantile(reach, 0.8), reach[2])
    assert radii == {round(zoom * 0.05, 1)}
    assert drawn.tags["ellipse"] == 17
    assert drawn.tags["rect"] == 8  # right keypoints, by shape and not by colour alone
    assert drawn.tags["circle"] == 9
    assert drawn.values("fill").count("#fff") == 1  # labelled in less than half of the poses
    assert "nose: deviation 0.05 across, 0.05 down, labelled in 20%" in drawn.text
    assert drawn.values("aria-label") == ["third"]


def test_bic_curve_is_that_of_the_mixtures(tmp_path: Path) -> None:
    table, _ = stick_table(repeat=2)
    settings = {"covariance": "diag", "min_labelled": 0.05}
    curve = bic_curve(table, settings, [4, 2, 3], seed=5)
    assert list(curve) == [2, 3, 4]
    features = table.features()
    for n, value in curve.items():
        alone = PostureMixture(n, covariance_type="diag", random_state=5).fit(features)
        assert value == pytest.approx(alone.bic(features), rel=1e-9)
    read, _, _ = write(tmp_path, curve=curve)
    shown = {row[0]: row[1] for row in read.rows if len(row) == 2}
    assert all(shown[str(n)] == f"{value:,.0f}" for n, value in curve.items())
    best = min(curve, key=lambda n: curve[n])
    assert f"the least is best: {best}." in read.text
    without, _, _ = write(tmp_path)
    assert "BIC" not in without.text


@pytest.mark.parametrize(
    ("given", "want"),
    [(False, (False, None)), (True, (True, None)), (8, (True, [8])), ([2, 4], (True, [2, 4])), ("2,4", (True, [2, 4]))],
)
def test_bic_setting(given: object, want: object) -> None:
    assert tried_numbers(given) == want


@pytest.mark.parametrize("given", ["many", [2, 0], [], 2.5, "2,x", [True]])
def test_bad_bic_setting_is_told(given: object) -> None:
    with pytest.raises(DPoseError, match="bic takes True, False or numbers of clusters"):
        tried_numbers(given)


def test_examples_run_from_typical_to_unusual_one_an_image() -> None:
    table, names = stick_table()
    table.image[1] = 0  # two persons in one image
    mixture, _ = known(table, names)
    own = members(table, mixture)
    persons = np.flatnonzero(own.cluster == 0)
    chosen = examples(own, persons, int(own.typical[0]), table.image)
    assert chosen[0] == own.typical[0]
    assert len({int(table.image[p]) for p in chosen}) == len(chosen) == 4
    assert list(own.score[chosen[1:]]) == sorted(own.score[chosen[1:]], reverse=True)
    assert examples(own, persons[:1], int(persons[0]), table.image) == [persons[0]]


def test_for_eyes_and_for_readers_aloud(tmp_path: Path) -> None:
    read, _, _ = write(tmp_path, curve={2: -10.0, 3: -20.0})
    assert ("html", {"lang": "en"}) in read.attributes
    assert all(a.get("alt") for tag, a in read.attributes if tag == "img")
    assert all(a.get("aria-label") or a.get("aria-hidden") for tag, a in read.attributes if tag == "svg")
    assert all(a.get("scope") for tag, a in read.attributes if tag == "th")
    assert read.tags["thead"] == read.tags["table"]
    assert read.tags["main"] == read.tags["h1"] == 1


def luminance(colour: str) -> float:
    digits = colour.lstrip("#")
    digits = "".join(c * 2 for c in digits) if len(digits) == 3 else digits
    parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_text_stands_out_from_every_background() -> None:
    assert contrast("#000", "#fff") == pytest.approx(21)
    style = page.STYLE + atlas_page.STYLE
    texts = set(re.findall(r"[{;]color:(#[0-9a-f]+)", style.lower()))
    grounds = set(re.findall(r"[{;]background:(#[0-9a-f]+)", style.lower())) - {"#009e73"}  # a bar, no text on it
    assert len(texts) >= 4
    assert grounds == {"#fff", "#fafaf8"}
    assert min(contrast(text, ground) for text in texts for ground in grounds) >= 4.5

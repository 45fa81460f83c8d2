"""The posture atlas as a page: what clusters look like, what is in them, how often they are drawn (paper Fig. 1)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dpose_yolo.dataset.files import shown
from dpose_yolo.keypoints import full_names
from dpose_yolo.report.drawing import GREEN, limbs
from dpose_yolo.report.page import head_row, html, jpeg, quote, save_page, text_of
from dpose_yolo.report.pictures import cut_person, draw_pose, read_picture
from dpose_yolo.report.svg import Skeletons, curve_svg, side_key
from dpose_yolo.report.tables import Members, members, records

if TYPE_CHECKING:
    import pandas as pd

    from dpose_yolo.engine.postures import PoseTable
    from dpose_yolo.posture.mixture import PostureMixture

EXAMPLES, OUTLIERS, ODDEST = 4, 12, 3  # pictures of a posture, of the whole set; least likely members of a posture
SIDE = 200  # pixels of a picture
STYLE = f"""
.cards{{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,340px),1fr));gap:14px}}
.card{{border:1px solid #d8d8d4;border-radius:6px;padding:10px;background:#fafaf8;min-width:0}}
.card svg{{display:block;width:100%;max-width:220px;margin:0 auto}}
.thumbs{{display:grid;grid-template-columns:repeat(auto-fill,minmax(130px,1fr));gap:6px;margin:6px 0;align-items:start}}
.far{{grid-template-columns:repeat(auto-fill,minmax(min(46%,150px),1fr));gap:10px}} .thumbs img{{width:100%}}
.bars{{display:block;min-width:90px}} .bars span{{display:block;height:8px;margin:3px 0;min-width:1px}}
.was{{background:repeating-linear-gradient(45deg,#8a8a8a 0 2px,#cfcfcf 2px 5px)}} .now{{background:{GREEN}}}
.key{{width:16px;height:16px;vertical-align:-3px;margin-right:3px}} .keys span{{margin-right:14px;white-space:nowrap}}
.swatch{{display:inline-block;width:22px;height:9px;margin-right:4px}}
.curve{{width:100%;max-width:480px;display:block}}
ul{{margin:4px 0;padding-left:18px}} summary{{cursor:pointer}}
.tag{{border:1px solid #222;border-radius:3px;padding:0 4px;font-size:12px;white-space:nowrap}}
"""


@dataclass
class Shown:
    """A labelled part and how to show it.

    Attributes:
        table: its persons.
        root: data folder; files are named from there.
        names: N posture names of the images, or None.
        pairs: keypoints to join.
        images: show pictures of the data.
    """

    table: PoseTable
    root: str
    names: Sequence[str | None] | None = None
    pairs: Sequence[tuple[int, int]] = field(default_factory=list)
    images: bool = True

    def file(self, person: int) -> str:
        """The image of a person, as the page names it."""
        return shown(self.table.files[self.table.image[person]], self.root)

    def picture(self, person: int, caption: str = "") -> str:
        """A figure of a person with the labels drawn; "" where there is no picture to show."""
        image = read_picture(self.table.files[self.table.image[person]]) if self.images else None
        cut = None if image is None else cut_person(image, self.table.boxes[person], SIDE)
        if cut is None:
            return ""
        small, matrix = cut
        pose = self.table.keypoints[person].copy()
        pose[:, :2] = pose[:, :2] @ matrix[:, :2].T + matrix[:, 2]
        draw_pose(small, pose, full_names(self.table.names), self.pairs)
        below = f"<figcaption>{html(caption)}</figcaption>" if caption else ""
        alt = quote(text_of(f"person in {self.file(person)} with the labels drawn"))
        height, width = small.shape[:2]
        return f'<figure><img alt={alt} width="{width}" height="{height}" src="{jpeg(small)}">{below}</figure>'

    def commonest(self, persons: np.ndarray, most: int = 3) -> str:
        """Names of persons with their shares, e.g. "phone_left 80 %, drink 20 %"; "" where none is known."""
        named = Counter(name for i in self.table.image[persons] if self.names and (name := self.names[i]))
        total = named.total()
        first = sorted(named.items(), key=lambda item: (-item[1], item[0]))[:most]
        rest = f" and {len(named) - most} more" if len(named) > most else ""
        return ", ".join(f"{name} {percent(count / total, 0)}" for name, count in first) + rest


def save_atlas_page(
    path: Path,
    title: str,
    view: Shown,
    mixture: PostureMixture,
    frame: pd.DataFrame,
    *,
    own: Members | None = None,
    curve: Mapping[int, float] | None = None,
    settings: Mapping[str, Any] | None = None,
    skeleton: Sequence[Sequence[int]] | None = None,
    comparison: Sequence[str] = (),
) -> Path:
    """Write `atlas.html`: every posture with mean, spread, shares and examples; the least likely poses; the BIC curve.

    With pictures the file shows people out of the data: treat it as the images themselves.

    Args:
        path: the file to write, in one step.
        title: what is shown, e.g. the data YAML and the part.
        view: the labelled part; its `pairs` are set here.
        mixture: fitted posture mixture.
        frame: `tables.cluster_table` of the same part.
        own: `members` of the part where it is at hand.
        curve: BIC by number of clusters; shown if there are two at least.
        settings: named in the page.
        skeleton: pairs of keypoint indices from 0 to join; by default guessed from the keypoint names.
        comparison: a section about another data set (`shift_page.section`).

    Raises:
        DPoseError: for a skeleton that does not fit, or a file that cannot be written.
    """
    view.pairs = limbs(view.table.names, skeleton)
    own = own or members(view.table, mixture)
    rows = records(frame)
    poses = int((own.cluster >= 0).sum())
    told = ", ".join(f"{name}={value}" for name, value in (settings or {}).items())
    sized = ", divided by its size" if view.table.scale == "box" else ", in pixels"
    left_out = ", ".join(view.table.names[k] for k in mixture.left_out_)
    lines = [
        f"<h1>Posture atlas of {html(title)}</h1>",
        f"<p>{len(rows)} postures, {poses:,} poses in {len(view.table.files):,} images. {html(told)}</p>",
        f"<p>Each posture is a cluster of poses relative to the centre of their box{sized}. "
        "Drawings show the mean with one standard deviation of every keypoint (point at one to read it).</p>",
        f"<p>Left out, almost never labelled: {html(left_out)}.</p>" if left_out else "",
        side_key(),
        *comparison,
        *_shares(rows),
        *_curve(curve or {}, len(rows)),
        '<section><h2>Postures</h2><div class="cards">',
    ]
    skeletons = Skeletons(mixture, view.table.names, view.pairs)
    lines += [_card(row, view, skeletons, own) for row in rows]
    lines.append("</div></section>")
    lines += _outliers(view, own)
    save_page(path, f"Posture atlas: {title}", lines, STYLE)
    return path


def bars(was: float, now: float, largest: float) -> str:
    """Two bars, one below the other; the numbers stand beside them in the table."""
    scale = 100 / max(largest, 1e-12)
    both = "".join(f'<span class="{k}" style="width:{v * scale:.1f}%"></span>' for k, v in (("was", was), ("now", now)))
    return f'<span class="bars" aria-hidden="true">{both}</span>'


def bar_key(was: str, now: str) -> str:
    """What the two bars are."""
    marks = "".join(f'<span><span class="swatch {k}"></span>{t}</span> ' for k, t in (("was", was), ("now", now)))
    return f'<p class="keys">{marks}</p>'


def percent(share: float, digits: int = 1) -> str:
    """A share as text that is not broken between lines."""
    return f"{100 * share:.{digits}f}\u00a0%"


def _shares(rows: Sequence[dict[str, Any]]) -> list[str]:
    named = "posture" in rows[0]
    columns = [("posture", ""), *([("commonest name", "wide")] if named else []), ("poses", "n"), ("natural", "n")]
    columns += [("drawn", "n"), ("", ""), ("draws", "n wide"), ("most of one image", "n wide")]
    largest = max(max(row["natural_share"], row["balanced_share"]) for row in rows)
    lines = [
        "<section><h2>Before and after balancing</h2>",
        f"<p>Natural: share of the images. Drawn: share of an epoch's draws. Even would be {percent(1 / len(rows))} "
        "each.</p>",
        bar_key("natural", "drawn"),
        f"<table>{head_row(columns)}<tbody>",
    ]
    for row in rows:
        j = row["cluster"]
        name = f'<td class="wide">{_name(row)}</td>' if named else ""
        lines.append(
            f'<tr><th scope="row"><a href="#posture-{j}">{j}</a></th>{name}<td class="n">{row["poses"]:,}</td>'
            f'<td class="n">{percent(row["natural_share"])}</td><td class="n">{percent(row["balanced_share"])}</td>'
            f"<td>{bars(row['natural_share'], row['balanced_share'], largest)}</td>"
            f'<td class="n wide">{row["draws"]:,.0f}</td><td class="n wide">{row["largest_draws"]:.1f}</td></tr>'
        )
    return [*lines, "</tbody></table></section>"]


def _name(row: Mapping[str, Any]) -> str:
    return f"{html(row['posture'])} ({percent(row['purity'], 0)})" if row.get("posture") else ""


def _curve(curve: Mapping[int, float], count: int) -> list[str]:
    if len(curve) < 2:
        return []
    best = min(curve, key=lambda n: (curve[n], n))
    cells = "".join(f'<tr><th scope="row">{n}</th><td class="n">{curve[n]:,.0f}</td></tr>' for n in sorted(curve))
    table = f"<table>{head_row((('clusters', ''), ('BIC', 'n')))}<tbody>{cells}</tbody></table>"
    title = f"BIC of {len(curve)} numbers of clusters from {min(curve)} to {max(curve)}, least at {best}"
    return [
        "<section><h2>How many postures?</h2>",
        f"<p>The Bayesian information criterion weighs likelihood against parameters; the least is best: {best}. "
        f"This atlas has {count}. With few images it asks for few clusters.</p>",
        curve_svg(curve, title),
        f"<details><summary>the numbers</summary>{table}</details></section>",
    ]


def _card(row: Mapping[str, Any], view: Shown, skeletons: Skeletons, own: Members) -> str:
    j = int(row["cluster"])
    persons = np.flatnonzero(own.cluster == j)
    title = f"mean skeleton of posture {j} with the spread of its keypoints"
    lines = [f'<article class="card" id="posture-{j}"><h3>Posture {j}</h3>']
    labelled = (~np.isnan(own.features[persons])).mean(0)[::2] if len(persons) else None
    lines.append(skeletons.draw(j, title, labelled))
    lines.append(
        f"<p>{row['poses']:,} poses, {percent(row['natural_share'])} of the images; "
        f"drawn {percent(row['balanced_share'])}.</p>"
    )
    known = view.commonest(persons)
    lines.append(f"<p>Names: {html(known)}</p>" if known else "")
    if len(persons):
        chosen = examples(own, persons, int(own.typical[j]), view.table.image)
        pictures = "".join(view.picture(p) for p in chosen)
        lines.append(f'<div class="thumbs">{pictures}</div>' if pictures else "")
        files = "".join(f"<li>{html(view.file(p))}</li>" for p in chosen)
        odd = persons[np.argsort(own.score[persons], kind="stable")[:ODDEST]]
        far = "".join(f"<li>{html(view.file(p))} ({own.score[p]:.2f})</li>" for p in odd)
        lines.append(
            f"<details><summary>files</summary><p>Examples, from near the mean to far from it:</p><ul>{files}</ul>"
            f"<p>Least likely (nats for each coordinate):</p><ul>{far}</ul></details>"
        )
    return "".join([*lines, "</article>"])


def examples(own: Members, persons: np.ndarray, typical: int, image: np.ndarray) -> list[int]:
    """Persons of a posture from the most typical to a rather unusual one, each from another image.

    They stand at even steps of likelihood (best, 70 %, 40 %, 10 %), so that they show what belongs to the posture and
    not only its mean.
    """
    order = persons[np.argsort(-own.score[persons], kind="stable")]
    steps = [order[min(len(order) - 1, int(at * len(order)))] for at in (0.3, 0.6, 0.9)][: EXAMPLES - 1]
    found: dict[int, int] = {}
    for p in (typical, *steps):
        found.setdefault(int(image[p]), int(p))
    return list(found.values())


def _outliers(view: Shown, own: Members) -> list[str]:
    known = np.flatnonzero(own.cluster >= 0)
    odd = known[np.argsort(own.score[known], kind="stable")[:OUTLIERS]]
    lines = [
        "<section><h2>Least likely poses</h2>",
        "<p>Far from every posture: rare, or labelled wrongly. Look at them first.</p>",
    ]
    pictures = "".join(view.picture(int(p), f"{view.file(int(p))}, posture {own.cluster[p]}") for p in odd)
    if pictures:
        lines.append(f'<div class="thumbs far">{pictures}</div>')
    columns = (("file", ""), ("posture", "n"), ("log-likelihood", "n"))
    lines.append(f"<table><caption>Nats for each labelled coordinate</caption>{head_row(columns)}<tbody>")
    for p in odd:
        lines.append(
            f'<tr><td class="f">{html(view.file(int(p)))}</td><td class="n">{own.cluster[p]}</td>'
            f'<td class="n">{own.score[p]:.2f}</td></tr>'
        )
    return [*lines, "</tbody></table></section>"]

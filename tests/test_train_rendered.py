"""`dpose train render=...`: an exact share of rendered images in every batch, the same after a break."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import pytest
import yaml
from render_cases import FAKE, plan_of
from resume_cases import Watched

from dpose_yolo import DPoseError, DPoseTrainer
from dpose_yolo.engine.finetune import FineTuneTrainer
from dpose_yolo.render.output import RenderedOutput
from dpose_yolo.render.run import render_set


@pytest.fixture
def rendered(tmp_path) -> str:
    """A rendered set of 20 images."""
    render_set(plan_of(20), RenderedOutput(tmp_path / "rendered", {"images": 20}), FAKE)
    return str(tmp_path / "rendered" / "data.yaml")


class Recording(DPoseTrainer):
    """Remembers the images of every batch."""

    def preprocess_batch(self, batch):
        self.__dict__.setdefault("seen", []).append(list(batch["im_file"]))
        return super().preprocess_batch(batch)


def rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.open()))


@pytest.mark.parametrize(("balance", "share", "count"), [(1.0, 0.5, 4), (0.0, 0.25, 2)])
def test_every_batch_has_its_share_of_rendered_images(base, rendered, balance, share, count):
    trainer = Recording(**base, att=0, balance=balance, render=rendered, render_share=share)
    trainer.train()
    batches = 24 // (8 - count)  # all 24 photographs once an epoch
    assert len(trainer.seen) == 2 * batches
    assert {(len(b), sum("rendered" in f for f in b)) for b in trainer.seen} == {(8, count)}
    draws = Counter(Path(f).name for b in trainer.seen for f in b if "rendered" in f)
    assert len(draws) == 20 or len(draws) == 2 * batches * count  # each equally often
    assert max(draws.values()) - min(draws.values()) <= 1
    photos = Counter(f for b in trainer.seen for f in b if "rendered" not in f)
    assert set(photos.values()) == {2} if not balance else max(photos.values()) > 2
    assert sum(int(r["draws"]) for r in rows(trainer.save_dir / "render_draws.csv")) == 2 * batches * count
    assert sum(int(r["draws"]) for r in rows(trainer.save_dir / "posture_draws.csv")) == 48
    args = yaml.safe_load((trainer.save_dir / "args.yaml").read_text())
    assert (args["render"], args["render_share"]) == (rendered, share)
    assert trainer.validator.dataloader.dataset.im_files == [f for f in trainer.test_loader.dataset.im_files]


def test_the_balance_of_the_photographs_fades(base, rendered):
    trainer = DPoseTrainer(**{**base, "epochs": 10}, att=0, clusters=4, render=rendered, balance_end=0.0)
    trainer.setup_model()
    dataset = trainer.build_dataset(trainer.data["train"], "train", 8)
    draws = trainer.make_draws(dataset)
    new = draws._new_sampler(24)
    assert new.expected(0).max() > 1.5 and new.expected(9) == pytest.approx([1.0] * 24)
    assert draws.old.plan.expected == pytest.approx([1.0] * 20)
    assert draws.old.mixture is draws.new.mixture


def test_a_broken_run_goes_on_as_the_unbroken(base, rendered):
    settings = {**base, "epochs": 3, "att": 0, "render": rendered, "mosaic": 0.5}
    whole = Watched(**settings, name="whole")
    whole.train()
    broken = Watched(**settings, name="broken")
    broken.stop_at = ("on_train_batch_end", 1, 2)
    with pytest.raises(KeyboardInterrupt):
        broken.train()
    moved = Path(rendered).parent.rename(Path(rendered).parent.with_name("moved"))
    again = Watched(resume=str(broken.last), render=str(moved / "data.yaml"))
    assert again.dpose["render"] == str(moved / "data.yaml") and again.dpose["render_share"] == 0.5
    again.train()
    assert again.digests[2] == whole.digests[2] and again.seen[2] == whole.seen[2]


def test_what_does_not_go_together_is_refused(base, rendered, mini_dataset, tmp_path):
    settings = {**base, "att": 0}
    with pytest.raises(DPoseError, match=r"no render file|no data file"):
        DPoseTrainer(**settings, render=str(tmp_path / "none.yaml"))
    with pytest.raises(DPoseError, match=r"rect=True cannot be used with render="):
        DPoseTrainer(**settings, render=rendered, rect=True)
    with pytest.raises(DPoseError, match=r"of data=.* and of render=.* take them out"):
        DPoseTrainer(**settings, render=base["data"]).train()
    few = mini_dataset("few", keypoints=5)
    with pytest.raises(DPoseError, match=r"different keypoints .kpt_shape."):
        DPoseTrainer(**settings, render=str(few)).train()
    with pytest.raises(DPoseError, match=r"render_share=1 is not allowed: render_share takes 0 to 0.95"):
        DPoseTrainer(**settings, render=rendered, render_share=1)
    with pytest.raises(DPoseError, match="batch=1 has no room"):
        DPoseTrainer(**{**settings, "batch": 1}, render=rendered).train()
    assert not (tmp_path / "runs").exists()
    plain = DPoseTrainer(**settings, render=rendered, render_share=0)
    plain.setup_model()
    assert len(plain.build_dataset(plain.data["train"], "train", 8).labels) == 24


def test_a_fine_tuning_takes_them_as_old_data(base, rendered):
    start = DPoseTrainer(**{**base, "epochs": 1}, att=0, name="start")
    start.train()
    with pytest.raises(DPoseError, match="render is for dpose train: a fine-tuning takes a rendered set as replay="):
        FineTuneTrainer(model=str(start.last), data=base["data"], render=rendered, project=base["project"])


def test_the_single_class_may_have_another_name(base, rendered, tmp_path):
    data = Path(base["data"])
    data.write_text(data.read_text().replace("0: driver", "0: person"))
    trainer = DPoseTrainer(**base, att=0, render=rendered)
    trainer.setup_model()
    dataset = trainer.build_dataset(trainer.data["train"], "train", 8)
    assert len(dataset.labels) == 44 and trainer.rendered_data()["names"] == {0: "person"}

"""`DPoseTrainer` on drawn drivers: equal to the engine when off, complete when on, one clear line for bad input."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from ultralytics import YOLO
from ultralytics.models.yolo.pose import PoseTrainer
from ultralytics.nn.tasks import load_checkpoint

from dpose_yolo import DPoseError, DPoseTrainer
from dpose_yolo.settings import specification


def rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.open()))


def weights(path: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(path)[0].state_dict()


def test_off_is_the_engine_to_the_last_digit(base):
    plain = {k: v for k, v in base.items() if not k.startswith("att_")}
    engine = PoseTrainer(overrides={**plain, "name": "engine", "mosaic": 0.5})
    engine.train()
    ours = DPoseTrainer("ultralytics", **base, name="ours", mosaic=0.5, balance=0, att=0)
    ours.train()
    for a, b in zip(rows(engine.csv), rows(ours.csv), strict=True):
        assert {k: v for k, v in a.items() if k != "time"} == {k: v for k, v in b.items() if k != "time"}
    for (name, a), b in zip(weights(engine.last).items(), weights(ours.last).values(), strict=True):
        assert torch.equal(a, b), name


def test_a_whole_run_records_everything(base):
    trainer = DPoseTrainer(
        base, name="run", clusters=4, att=2.0, box_loss="diou", lr_drop=1, plots=True, mosaic=1.0, close_mosaic=0
    )
    trainer.train()
    folder = trainer.save_dir
    table = rows(folder / "results.csv")
    assert len(table) == 2
    assert all(float(r["train/att_loss"]) > 0 and float(r["val/att_loss"]) > 0 for r in table)
    assert [float(r["lr/pg0"]) for r in table] == [0.01, pytest.approx(0.001)]
    assert (folder / "results.png").stat().st_size > 10000 and (folder / "postures.png").stat().st_size > 10000
    saved = yaml.safe_load((folder / "args.yaml").read_text())
    assert {k: saved[k] for k in ("clusters", "att", "box_loss", "balance")} == {
        "clusters": 4,
        "att": 2.0,
        "box_loss": "diou",
        "balance": 1.0,
    }
    assert set(specification()) <= set(saved)
    model, _ = load_checkpoint(trainer.best)
    assert model.dpose == {k: saved[k] for k in specification()}
    assert type(model).__module__.startswith("ultralytics.") and not model.criterion
    assert not any(m._forward_hooks for m in model.modules())
    draws = rows(folder / "posture_draws.csv")
    assert {int(r["epoch"]) for r in draws} == {1, 2}
    for epoch in ("1", "2"):
        part = [r for r in draws if r["epoch"] == epoch]
        assert sum(int(r["draws"]) for r in part) == 24
        assert sum(float(r["effective"]) for r in part) == pytest.approx(1, abs=1e-3)
        # mosaic is on by default: partners are drawn by the same expectation
        assert sum(int(r["partners"]) for r in part) > 0


def test_engine_entry_point_and_checkpoint_start(base):
    first = DPoseTrainer(base, name="first", epochs=1, att=0, clusters=4)
    first.train()
    model = YOLO(first.best)
    model.train(
        trainer=DPoseTrainer, clusters=3, att=0.5, **{**base, "model": str(first.best), "name": "second", "epochs": 1}
    )
    assert isinstance(model.trainer, DPoseTrainer)
    assert model.trainer.dpose["clusters"] == 3
    assert len(model.trainer.draws.mixture.weights_) == 3
    assert float(rows(model.trainer.csv)[0]["train/att_loss"]) > 0
    result = model.predict(np.zeros((64, 64, 3), np.uint8), imgsz=64, verbose=False)
    assert result[0].keypoints.data.shape[1:] == (17, 3)


def test_resume_draws_what_the_unbroken_run_would(base):
    seen: dict[int, list[str]] = {}

    class Recording(DPoseTrainer):
        def preprocess_batch(self, batch):
            seen.setdefault(self.epoch, []).extend(Path(f).name for f in batch["im_file"])
            return super().preprocess_batch(batch)

    whole = Recording(base, name="whole", clusters=4, epochs=3)
    whole.train()
    wanted, seen = {e: sorted(f) for e, f in seen.items()}, {}

    class Broken(DPoseTrainer):
        def run_callbacks(self, event):
            super().run_callbacks(event)
            if event == "on_model_save" and self.epoch == 0:
                raise KeyboardInterrupt

    broken = Broken(base, name="broken", clusters=4, epochs=3)
    with pytest.raises(KeyboardInterrupt):
        broken.train()
    resumed = Recording(resume=str(broken.last), clusters=9)  # a changed setting is ignored with a warning
    assert resumed.dpose["clusters"] == 4
    resumed.train()
    assert sorted(seen) == [1, 2]
    assert {e: sorted(f) for e, f in seen.items()} == {e: wanted[e] for e in (1, 2)}
    assert [int(r["epoch"]) for r in rows(resumed.csv)] == [1, 2, 3]


@pytest.mark.parametrize("cache", [False, "ram"])
def test_mosaic_partners_follow_the_balance(base, mini_dataset, cache):
    data = mini_dataset("tail", train=160)
    trainer = DPoseTrainer(
        {**base, "data": str(data)}, epochs=1, att=0, clusters=4, balance=1, refits=0, mosaic=1.0, close_mosaic=0,
        cache=cache,
    )  # fmt: skip
    trainer.train()
    part = rows(trainer.save_dir / "posture_draws.csv")
    natural = np.array([float(r["natural"]) for r in part])
    effective = np.array([float(r["effective"]) for r in part])
    partners = np.array([int(r["partners"]) for r in part])
    assert partners.sum() == 3 * 160
    expected = np.array([float(r["expected"]) for r in part])
    # 640 images went in: their shares must lie near the balanced ones, far from the natural ones
    assert np.abs(effective - expected).max() < 0.08
    assert np.abs(natural - expected).max() > 0.15


def test_fraction_and_square_rect_train(base):
    trainer = DPoseTrainer(base, name="part", epochs=1, fraction=0.5, rect=True, clusters=3, att=0)
    trainer.train()
    assert len(trainer.draws.table.files) == 12
    assert sum(int(r["draws"]) for r in rows(trainer.save_dir / "posture_draws.csv")) == 12


def test_mixture_is_reused_and_refitted_by_content(base, monkeypatch):
    from dpose_yolo.posture.mixture import PostureMixture

    fits = []
    fit = PostureMixture.fit
    monkeypatch.setattr(PostureMixture, "fit", lambda self, *a, **k: fits.append(1) or fit(self, *a, **k))

    def run(**settings):
        DPoseTrainer(
            base, exist_ok=True, epochs=1, val=False, att=0, **{"clusters": 3, "refits": 0, "mixtures": 1, **settings}
        ).train()
        return len(fits)

    assert run() == 1
    label = sorted((Path(base["data"]).parent / "labels" / "train").glob("*.txt"))[0]
    label.touch()
    assert run() == 1  # a newer file with the same content
    label.write_text(label.read_text().replace(" 0.5", " 0.4", 1))
    (label.parent.with_suffix(".cache")).unlink()
    assert run() == 2  # another content
    assert run(clusters=2) == 3  # another setting
    assert run(clusters=2, mixtures=3) == 5  # two more, beside the first
    assert run(clusters=2, mixtures=3) == 5
    assert run(clusters=2, mixtures=3, balance=0, kpt_far=1) == 5  # natural draws need none


def test_presets_and_settings_files(tmp_path, base):
    own = tmp_path / "mine.yaml"
    own.write_text(yaml.safe_dump({**base, "clusters": 5, "epochs": 7}))
    trainer = DPoseTrainer(own, epochs=1, name="file")
    assert (trainer.dpose["clusters"], trainer.epochs) == (5, 1)
    paper = DPoseTrainer("paper", **{**base, "optimizer": "Adam", "lr0": 1e-4}, name="paper")
    assert (paper.dpose["att"], paper.dpose["box_loss"], paper.args.pose, paper.args.dfl) == (5.0, "diou", 1.0, 0.0)
    # the arguments that the engine hands to its multi-GPU workers build the same trainer
    again = DPoseTrainer(overrides={**vars(trainer.args), "exist_ok": True})
    assert again.dpose == trainer.dpose


def test_one_channel_infrared(base):
    data = Path(base["data"])
    data.write_text(data.read_text() + "channels: 1\n")
    trainer = DPoseTrainer(base, name="infrared", epochs=1, clusters=3, att=1.0)
    trainer.train()
    model, _ = load_checkpoint(trainer.best)
    assert model.model[0].conv.weight.shape[1] == 1
    assert float(rows(trainer.csv)[0]["train/att_loss"]) > 0
    from dpose_yolo.engine.explain import explain

    found = explain(model, np.full((48, 96, 3), 90, np.uint8), [9, 10], imgsz=64)
    assert found.maps["left_wrist"].shape == (48, 96)


def test_settings_survive_the_multi_gpu_launch(base):
    """The engine pickles class and arguments, and rebuilds the trainer from them in each worker."""
    from ultralytics.utils import DEFAULT_CFG_DICT
    from ultralytics.utils.dist import generate_ddp_file
    from ultralytics.utils.patches import torch_load

    trainer = DPoseTrainer(base, name="ddp", clusters=5, att_layers=[2, 4], balance=0.5)
    script = Path(generate_ddp_file(trainer))
    try:
        state = torch_load(script.with_suffix(".pt"), map_location="cpu")
        cfg = {**DEFAULT_CFG_DICT, "save_dir": ""}
        worker = state["trainer"](cfg=cfg, overrides=state["args"], _callbacks=state["callbacks"])
    finally:
        script.unlink()
        script.with_suffix(".pt").unlink()
    assert type(worker) is DPoseTrainer
    assert worker.dpose == trainer.dpose and worker.dpose["att_layers"] == [2, 4]
    assert worker.save_dir == trainer.save_dir


def test_early_stopping_and_callbacks(base):
    trainer = DPoseTrainer(base, name="stop", epochs=6, patience=1, clusters=3, att=0.5, lr0=0.0)
    epochs = []
    trainer.add_callback("on_train_epoch_end", lambda t: epochs.append(t.epoch))
    trainer.train()
    assert epochs == list(range(len(rows(trainer.csv)))) and len(epochs) < 6


def test_the_balance_fades_along_the_epochs_and_under_time_it_does_not(base):
    def shares(folder, epoch):
        return [float(r["expected"]) for r in rows(folder / "posture_draws.csv") if r["epoch"] == str(epoch)]

    plain = {"clusters": 3, "att": 0, "mosaic": 0, "mixtures": 1}
    trainer = DPoseTrainer(base, name="fade", epochs=3, balance_end=0.0, **plain)
    trainer.train()
    plan = trainer.draws.plan
    assert shares(trainer.save_dir, 1) == pytest.approx(plan.shares(plan.expected), abs=1e-5)
    natural = plan.shares(np.ones(24))
    assert shares(trainer.save_dir, 3) == pytest.approx(natural, abs=1e-5)
    assert np.abs(plan.shares(plan.expected) - natural).max() > 0.05
    assert shares(trainer.save_dir, 2) == pytest.approx(0.8 * plan.shares(plan.expected) + 0.2 * natural, abs=1e-5)
    drawn = [int(r["draws"]) for r in rows(trainer.save_dir / "posture_draws.csv") if r["epoch"] == "3"]
    assert drawn == plan.counts(np.ones(24)).tolist()  # every image once
    for name, given in (("flat", {"balance_end": 1.0}), ("timed", {"time": 1.0})):
        other = DPoseTrainer(base, name=name, epochs=3, **given, **plain)
        other._setup_train()
        np.testing.assert_array_equal(other.draws.sampler.expected(2), other.draws.plan.expected)


class NaNOnce(DPoseTrainer):
    """Reports a fitness that is not a number after epoch 1, the first time."""

    def validate(self):
        metrics, fitness = super().validate()
        if self.epoch == 1 and not getattr(self, "was_nan", False):
            self.was_nan = True
            return metrics, float("nan")
        return metrics, fitness


@pytest.mark.parametrize("att", [0.0, 1.0])
def test_recovery_from_nan_repeats_the_epoch(base, att):
    trainer = NaNOnce(base, name="nan", epochs=3, clusters=3, att=att, box_loss="diou")
    epochs = []
    trainer.add_callback("on_train_epoch_end", lambda t: epochs.append((t.epoch, t.draws.drawn.copy())))
    trainer.train()
    assert [e for e, _ in epochs] == [0, 1, 1, 2]
    table = rows(trainer.save_dir / "posture_draws.csv")
    assert [int(r["epoch"]) for r in table] == [e for e in (1, 2, 3) for _ in range(3)]
    for epoch, drawn in epochs:
        assert (drawn == np.bincount(trainer.draws.sampler.draws(epoch), minlength=24)).all()
    model, _ = load_checkpoint(trainer.best)  # would need this package, or fail, had a hook been saved
    assert not any(m._forward_hooks for m in model.modules())
    if att:
        assert float(rows(trainer.csv)[-1]["train/att_loss"]) > 0
        assert trainer.model.criterion.step == 9


def test_attention_starts_by_the_share_of_epochs_that_really_run(base):
    class Longer(DPoseTrainer):
        """The engine re-estimates the number of epochs under `time=`."""

        def run_callbacks(self, event):
            if event == "on_train_epoch_start" and self.epoch == 1:
                self.epochs = 4
            super().run_callbacks(event)

    trainer = Longer(base, name="share", epochs=8, clusters=3, att=1.0, att_start=0.5)
    trainer.train()
    losses = [(float(r["train/att_loss"]), float(r["val/att_loss"])) for r in rows(trainer.csv)]
    assert [(t > 0, v > 0) for t, v in losses] == [(False, False), (False, False), (True, True), (True, True)]


def test_frozen_backbone(base):
    with pytest.raises(DPoseError, match="freeze=5 freezes all layers up to 4"):
        DPoseTrainer(base, name="frozen", freeze=5, clusters=3, att_map="gradcam").train()
    trainer = DPoseTrainer(
        base, name="second", freeze=5, clusters=3, att_map="gradcam", att_order=2, epochs=1, att_bn="batch"
    )
    trainer.train()
    assert float(rows(trainer.csv)[0]["train/att_loss"]) > 0


def test_distillation_keeps_the_keypoint_losses(base):
    teacher = DPoseTrainer(base, name="teacher", epochs=1, balance=0, att=0)
    teacher.train()
    with pytest.raises(DPoseError, match="distill_model cannot be used with the maps of Grad-CAM"):
        DPoseTrainer(base, name="refused", att_map="gradcam", distill_model=str(teacher.best))
    losses = {}
    for far in (0, 5):
        student = DPoseTrainer(
            base, name=f"far{far}", epochs=1, clusters=3, att=0, kpt_far=far, distill_model=str(teacher.best)
        )
        student.train()
        losses[far] = rows(student.csv)[0]
        model, _ = load_checkpoint(student.best)
        assert list(model.state_dict()) == list(weights(teacher.best)) and not model.criterion
    assert float(losses[5]["train/dis_loss"]) > 0
    assert float(losses[5]["train/pose_loss"]) > 2 * float(losses[0]["train/pose_loss"])


def test_distillation_and_readout_go_together_and_on_after_a_break(base):
    """Both losses are there, the checkpoint is plain, and a run that is broken off ends with the same weights."""
    teacher = DPoseTrainer(base, name="teacher", epochs=1, balance=0, att=0)
    teacher.train()
    both = {**base, "epochs": 2, "clusters": 3, "att": 2.0, "distill_model": str(teacher.best)}

    class Broken(DPoseTrainer):
        def save_model(self):
            super().save_model()
            raise KeyboardInterrupt

    whole = DPoseTrainer(both, name="whole")
    whole.train()
    for row in rows(whole.csv):
        assert float(row["train/dis_loss"]) > 0 and float(row["train/att_loss"]) > 0
    model, _ = load_checkpoint(whole.best)
    assert list(model.state_dict()) == list(weights(teacher.best)) and not model.criterion
    broken = Broken(both, name="broken")
    with pytest.raises(KeyboardInterrupt):
        broken.train()
    DPoseTrainer(resume=str(broken.last)).train()
    again = weights(broken.last)
    assert all(torch.equal(v, again[k]) for k, v in weights(whole.last).items())


def test_a_saved_args_file_starts_a_new_run(base):
    first = DPoseTrainer(base, name="first", epochs=1, clusters=3, att=0)
    first.train()
    before = first.csv.read_bytes()
    for cfg in (first.save_dir / "args.yaml", yaml.safe_load((first.save_dir / "args.yaml").read_text())):
        again = DPoseTrainer(cfg, seed=5)
        assert again.save_dir != first.save_dir and again.dpose == first.dpose
    assert first.csv.read_bytes() == before
    complete = DPoseTrainer({**vars(PoseTrainer(overrides={k: v for k, v in base.items() if "att" not in k}).args)})
    assert (complete.epochs, complete.args.lr0, complete.dpose["clusters"]) == (2, 0.004, "by_size")


def test_partners_are_counted_with_workers(base, mini_dataset):
    from dpose_yolo.engine.partners import PARTNERS

    trainer = DPoseTrainer(base, name="workers", clusters=3, att=0, mosaic=1.0, cache="ram")
    trainer._setup_train()
    trainer.args.workers = 2
    loader = trainer.get_dataloader(trainer.data["train"], batch_size=8, rank=-1)
    for _ in range(2):
        batches = list(loader)
        assert sum(len(s) for b in batches for s in b[PARTNERS]) == 3 * 24
    loader.close()

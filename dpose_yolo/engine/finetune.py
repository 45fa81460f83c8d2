"""`FineTuneTrainer`: from one cabin to the next with few images, without losing the first."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from copy import copy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn
from ultralytics.utils import DEFAULT_CFG, LOCAL_RANK, LOGGER, RANK
from ultralytics.utils.torch_utils import torch_distributed_zero_first, unwrap_model

from dpose_yolo.engine import checks
from dpose_yolo.engine.averaging import Averaging, average_with_start, training_ap
from dpose_yolo.engine.balance import BalancedDraws
from dpose_yolo.engine.carried import carried_postures
from dpose_yolo.engine.checkpoints import learner, read_checkpoint
from dpose_yolo.engine.criterion import DPoseCriterion
from dpose_yolo.engine.explain import load_pose_model
from dpose_yolo.engine.given import merged_settings, with_run_folder
from dpose_yolo.engine.graph import EngineModel
from dpose_yolo.engine.keep import KeepCriterion, frozen_teacher
from dpose_yolo.engine.labels import load_labels
from dpose_yolo.engine.memory import carried_images, is_carried, unpack_images
from dpose_yolo.engine.optimizers import quick_on_cpu
from dpose_yolo.engine.replay import FineTuneDraws, ReplayDataset
from dpose_yolo.engine.run_files import with_whole_paths
from dpose_yolo.engine.same_labels import read_data, refuse_other_labels, refuse_unlike
from dpose_yolo.engine.trainer import DPoseTrainer
from dpose_yolo.errors import DPoseError
from dpose_yolo.evaluation.data import load_part
from dpose_yolo.finetune.rules import BATCH, INHERITED, INHERITED_DPOSE, KNOWN, LEAST_BATCHES, by_muon, recipe
from dpose_yolo.posture.carried import CarriedPostures, joined
from dpose_yolo.settings import CARRIED, CARRIED_CARD, refuse_engine_values, specification

CHANGE = "dpose_change"  # attribute of the model: how the new postures differ from those of its start
RECALL = ("recall", "replay_share")  # settings that say whether images of the starting model are replayed
RESOLVED = ("norms", "new_mosaic", "start_share")  # settings whose `auto` is what the recipe says
FILES = ("replay", "old", "start")  # settings that name a file, besides the engine's `data` and `model`


class FineTuneTrainer(DPoseTrainer):
    """Fine-tunes a trained pose model on few images of a new cabin.

    Length, speed and clusters follow from the number of new images and what the starting model knows of them
    (`finetune.rules.recipe`), input size and augmentation from the starting model; what the user sets goes before both.
    Old images (`replay`) fill a set share of every batch; without them, a distillation from the starting model (`keep`)
    holds what it knows, and the result is averaged with it where that holds (`start_share`), and batch norms keep its
    statistics (`norms`).

    Examples:
        >>> FineTuneTrainer(model="best.pt", data="new.yaml", replay="old.yaml").train()
    """

    COMMAND = "finetune"
    COMMANDS = ("finetune",)
    MAY_MOVE = FILES
    args: Any  # the engine's settings
    data: dict[str, Any]  # the engine's data dictionary of the new data
    averaging: Averaging | None = None  # of the final weights with the starting model's
    _recalled = 0  # images that the starting model brings and that are replayed

    def __init__(
        self,
        cfg: str | Path | Mapping[str, Any] | SimpleNamespace = DEFAULT_CFG,
        overrides: Mapping[str, Any] | None = None,
        _callbacks: dict | None = None,
        **settings: Any,
    ):
        """Arguments are those of `DPoseTrainer`; `model` must be a trained checkpoint.

        Raises:
            DPoseError: for settings or data that cannot be used, and data sets or models of other keypoints.
        """
        given = with_run_folder(merged_settings(cfg, overrides or {}, settings), self.COMMAND)
        self._old_data: dict[str, Any] | None = None
        self._each_batch_a_step = given.get("nbs") is None
        given = checks.run_to_resume(given)  # whether a run of this name goes on or starts; only a new one has a start
        if not given.get("resume"):
            given = self._completed(given)
        super().__init__(DEFAULT_CFG, with_whole_paths(given, FILES), _callbacks)
        if self._recalled or is_carried(self.dpose["replay"]):  # or a resumed run, which may have been moved
            self.dpose["replay"] = str(self.save_dir / CARRIED / CARRIED_CARD)
            self._keep_settings()
        if self.resume:  # as before the break, when the batch may have had another size
            before = read_checkpoint(given["resume"])["train_args"]
            self._each_batch_a_step = before["nbs"] == before["batch"]

    def _completed(self, given: dict[str, Any]) -> dict[str, Any]:
        """The user's settings, with what follows from the starting model and the number of images."""
        given = {k: v for k, v in given.items() if (k, v) != ("epochs", None)}  # the engine's word for its default
        refuse_engine_values(given)
        start = str(given.get("start") or given.get("model") or "")
        if Path(start).suffix != ".pt":
            raise DPoseError(
                "finetune needs a trained model: set model= to a .pt checkpoint, e.g. runs/train/weights/best.pt"
            )
        given.setdefault("model", start)
        model = load_pose_model(start)
        outside = bool(given.get("outside"))
        labels, data, _ = load_labels(given.get("data"), "train", bool(given.get("skip_bad")), outside)
        classes = not given.get("single_cls")
        refuse_other_labels(model, start, data, str(given["data"]), classes)
        for name in ("replay", "old"):
            if given.get(name) and not is_carried(given[name]):
                checks.require_data_file(given[name], name)
                old = read_data(given[name], outside, name)
                refuse_unlike(data, str(given["data"]), old, str(given[name]), classes)
                if name == "replay" and Path(old["yaml_file"]).samefile(data["yaml_file"]):
                    raise DPoseError(f"replay={given[name]} is the new data itself: name the old data, or leave it out")
        if given.get("balance_end", 1) != 1:
            raise DPoseError("balance_end is for dpose train: a fine-tuning draws its few images evenly to the end")
        if given.get("fraction", 1) != 1:  # the length, and what the average is measured on, follow from all images
            raise DPoseError("fraction is for dpose train: name the images to fine-tune on in the data YAML")
        own = {k: v for k, v in getattr(model, "dpose", {}).items() if k in INHERITED_DPOSE}
        args = {k: v for k, v in model.args.items() if k in INHERITED}
        asked = {k: s.check(given.get(k, s.default)) for k, s in specification("finetune").items() if k in RECALL}
        if asked["recall"] and asked["replay_share"] > 0 and not given.get("replay"):
            self._recalled = carried_images(model)
        told = {**given, "replay": CARRIED_CARD} if self._recalled else given
        told = {k: v for k, v in told.items() if k not in RESOLVED or v != "auto"}
        replayed = bool(told.get("replay")) and asked["replay_share"] > 0
        follows = "epochs" not in given if replayed else "lr0" not in given and by_muon(given)
        start_ap = measured_start(start, {**args, **given}) if follows and RANK == -1 else None
        rules = recipe(len(labels), told, start_ap)
        return {**args, **own, **given, **rules, "start": str(Path(start).resolve())}

    def _refuse_combinations(self, engine: Mapping[str, Any]) -> None:
        """The parent's, and the shapes of `rect`, which are of each part its own."""
        super()._refuse_combinations(engine)
        if self.dpose["render"]:
            raise DPoseError("render is for dpose train: a fine-tuning takes a rendered set as replay=")
        if engine.get("rect") and (self._replayed() or self._recalled):
            raise DPoseError("rect=True cannot be used with old images in the batch, which may have another shape: "
                             "set rect=False")  # fmt: skip

    def _recall(self) -> None:
        """Take the images that the starting model carries for the old data; one process of a machine writes them."""
        start, folder = self.dpose["start"], self.save_dir / CARRIED
        with torch_distributed_zero_first(LOCAL_RANK):
            if LOCAL_RANK in {-1, 0}:
                model = load_pose_model(start)
                found = carried_images(model)
                if not found and (folder / CARRIED_CARD).exists():  # taken off it since this run has begun
                    LOGGER.info(f"Replay: the images in {folder}, which {start} carries no longer")
                    return
                unpack_images(model, start, folder, self.data)
                LOGGER.info(f"Replay: {found} images that {start} carries; recall=False leaves them out")

    # Data

    def build_dataset(self, img_path: str, mode: str = "train", batch: int | None = None) -> Any:
        """New images, with the old ones behind them where they are replayed."""
        if mode != "train":
            return super().build_dataset(img_path, mode, batch)
        everywhere, self.args = self.args, copy(self.args)
        self.args.mosaic = self.new_mosaic()
        try:
            new = super().build_dataset(img_path, mode, batch)
        finally:
            self.args = everywhere
        if not self._replayed():
            return new
        if is_carried(self.dpose["replay"]):
            self._recall()
        here = self.data
        self.data = self.replay_data()  # the engine reads keypoints and mirroring there
        try:
            old = super().build_dataset(self.data["train"], mode, batch)
        finally:
            self.data = here
        return ReplayDataset(new, old, (f"data={self.args.data}", f"replay={self.dpose['replay']}"))

    def new_mosaic(self) -> float:
        """Share of the new images in mosaics."""
        share = self.dpose["new_mosaic"]
        return float(self.args.mosaic if share == "auto" else share)

    def _replayed(self) -> bool:
        return bool(self.dpose["replay"]) and self.dpose["replay_share"] > 0

    def replay_data(self) -> dict[str, Any]:
        """The engine's data dictionary of the old data."""
        if self._old_data is None:
            self._old_data = read_data(self.dpose["replay"], self.dpose["outside"], "replay")
            classes = not self.args.single_cls  # else the engine has renamed the new data's
            refuse_unlike(self.data, str(self.args.data), self._old_data, self.dpose["replay"], classes)
        return self._old_data

    def draws_postures(self) -> bool:
        """Always: with `balance=0`, too, every batch has its share of old images."""
        return True

    def make_draws(self, dataset: Any) -> Any:
        """Draws of new and old images."""
        old = self.replay_data() if self._replayed() else None
        carried = carried_postures(load_pose_model(self.dpose["start"]), self.dpose["start"])
        draws = FineTuneDraws(dataset, self.data, old, self.dpose, self.args.seed, carried, LEAST_BATCHES)
        if RANK in {-1, 0}:
            if draws.change is None:
                LOGGER.info(f"Postures: not compared, {self.dpose['start']} brings none of these keypoints")
            else:
                LOGGER.info(f"Postures: {draws.change.sentence(data_name(self.args.data))}")
        return draws

    def drawn_parts(self) -> list[BalancedDraws]:
        """New images, and old ones where they are replayed."""
        return [part for part in (self.draws.new, self.draws.old) if part is not None]

    def trained_postures(self) -> CarriedPostures:
        """Those of the new images, and those that the starting model knew before them."""
        if self._postures is None:
            known, new = self.draws.known, super().trained_postures()
            self._postures = joined(known, new) if known else new
        return self._postures

    # Model and criterion

    def _build_train_pipeline(self) -> None:
        """The engine's, with every batch a step, whatever size it has come to: filled to the card, or halved.

        With less than `nbs` images in a batch the engine would take fewer steps, with more it would scale the decay up.
        """
        if self._each_batch_a_step:
            self.args.nbs = self.batch_size
        self._keep_settings()
        super()._build_train_pipeline()

    def build_optimizer(self, *args: Any, **kwargs: Any) -> torch.optim.Optimizer:
        """The engine's, quicker on the CPU.

        Steps of a light model on small pictures are short. Weights are not to the bit those of the engine's optimizer,
        and so this is not for `DPoseTrainer`, which can be the engine's trainer.
        """
        optimizer = super().build_optimizer(*args, **kwargs)
        if self.device.type == "cpu":
            quick_on_cpu(optimizer)
        return optimizer

    def keep_weight(self) -> float:
        """Weight of the distillation from the starting model."""
        keep = self.dpose["keep"]
        return float((0.0 if self._replayed() else 1.0) if keep == "auto" else keep)

    def _model_train(self) -> None:
        """The engine's; frozen batch norms keep to the starting model's running statistics."""
        super()._model_train()
        if self.dpose["norms"] == "frozen":
            for module in self.model.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()

    def _attach(self) -> None:
        """DPOSE's criteria, with the distillation inside them."""
        super()._attach()
        change = self.draws.change
        if change is not None:  # in the checkpoint, for the table: with several GPUs, another process has found it
            for whole in self._students():
                told = {"lacking": change.lacking, "new": change.new, "foreign_share": float(change.share)}
                told["sentence"] = change.sentence(data_name(self.args.data))
                setattr(learner(whole), CHANGE, told)
        if self.keep_weight() <= 0:
            return
        teacher = frozen_teacher(load_pose_model(self.dpose["start"]), self.device, bool(self.args.channels_last))
        old = self.draws.old_images if self._replayed() else None
        for model in self._students():
            outer = model.criterion
            if isinstance(outer, DPoseCriterion):
                outer.base = KeepCriterion(outer.base, teacher, self.keep_weight(), old)
            else:
                model.criterion = KeepCriterion(outer or model.init_criterion(), teacher, self.keep_weight(), old)

    def start_share(self) -> float | str:
        """Share of the starting model in the final weights; `auto` where that is to be found out."""
        share = self.dpose["start_share"]
        if share != "auto" or not (self._replayed() or self.world_size > 1 or RANK != -1):
            return share
        if not self._replayed() and RANK == 0:  # the engine's validation needs all processes at every step
            LOGGER.info("weights: not averaged with the starting model: start_share=auto measures in one process only")
        return 0.0

    def train(self) -> None:
        """The engine's; pictures of persons do not outlive a run that cannot be resumed."""
        try:
            super().train()
        finally:
            if RANK in {-1, 0} and not self.last.exists():
                shutil.rmtree(self.save_dir / CARRIED, ignore_errors=True)

    def final_eval(self) -> None:
        """The engine's, with `best.pt` averaged with the starting model before, where that holds."""
        share = self.start_share()
        if RANK in {-1, 0} and share != 0 and self.best.exists():
            part = None
            if share == "auto":
                skip, outside = self.dpose["skip_bad"], self.dpose["outside"]
                part = load_part(self.args.data, "train", skip_bad=skip, outside=outside)
            engine = {k: getattr(self.args, k) for k in ("imgsz", "batch", "device", "workers")}
            self.averaging = average_with_start(self.best, self.dpose["start"], share, part, **engine)
            LOGGER.info(self.averaging.sentence())
        super().final_eval()
        if RANK in {-1, 0}:  # pictures of persons: not longer than they are needed
            shutil.rmtree(self.save_dir / CARRIED, ignore_errors=True)

    def _students(self) -> list[EngineModel]:
        """The live model and its average."""
        return [unwrap_model(self.model), self.ema.ema]

    def _detach(self) -> bool:
        """The parent's, and the distillation comes off too."""
        attached = super()._detach()
        models = [m for m in self._students() if isinstance(getattr(m, "criterion", None), KeepCriterion)]
        for model in models:
            model.criterion = model.criterion.base
        return attached or bool(models)


def measured_start(start: str, settings: Mapping[str, Any]) -> float:
    """AP of the starting model on the new training images, which is told: whether it knows pictures of this kind.

    Args:
        start: path of its checkpoint.
        settings: of the fine-tuning; `data`, `outside`, `skip_bad`, `imgsz`, `device` and `workers` are looked at.
    """
    part = load_part(
        settings["data"], "train", skip_bad=bool(settings.get("skip_bad")), outside=bool(settings.get("outside"))
    )
    engine = {k: settings[k] for k in ("imgsz", "device", "workers") if settings.get(k) is not None}
    found = training_ap(start, part, **engine, batch=BATCH)
    kind = "it knows pictures of this kind" if found >= KNOWN else "pictures of a kind that it does not know"
    LOGGER.info(f"start: AP {found:.3f} on the new training images, {kind}")
    return found


def change_of(tuned: Path) -> dict[str, Any] | None:
    """How a checkpoint says that its new postures differ from its start's; None where they were not compared."""
    content = read_checkpoint(tuned)
    return getattr(content.get("ema") or content["model"], CHANGE, None)


def data_name(path: Any) -> str:
    """What to call a data set: the name of its YAML, or of the folder where that says nothing, `cabin/data.yaml`."""
    path = Path(path).absolute()
    if path.suffix not in (".yaml", ".yml"):
        return path.name
    return path.parent.name if path.stem == "data" else path.stem

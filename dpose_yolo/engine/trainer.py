"""`DPoseTrainer`: the engine's `PoseTrainer` with balanced postures and keypoint attention."""

from __future__ import annotations

import math
from collections.abc import Mapping
from copy import copy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from dpose_yolo.engine.compat import require_engine

require_engine()

import torch  # noqa: E402
import torch.distributed as dist  # noqa: E402
from ultralytics.data.utils import check_det_dataset  # noqa: E402
from ultralytics.models.yolo.pose import PoseValidator  # noqa: E402
from ultralytics.utils import DEFAULT_CFG, DEFAULT_CFG_DICT, LOCAL_RANK, LOGGER, RANK, YAML  # noqa: E402
from ultralytics.utils.torch_utils import torch_distributed_zero_first, unwrap_model  # noqa: E402

from dpose_yolo import settings as dpose_settings  # noqa: E402
from dpose_yolo.engine import checks, label_checks, words  # noqa: E402
from dpose_yolo.engine.allocator import keep_freed_memory  # noqa: E402
from dpose_yolo.engine.attention import AttentionTerm  # noqa: E402
from dpose_yolo.engine.balance import BalancedDraws  # noqa: E402
from dpose_yolo.engine.carried import carry_on, training_postures  # noqa: E402
from dpose_yolo.engine.checkpoints import learner, read_checkpoint  # noqa: E402
from dpose_yolo.engine.criterion import DPoseCriterion, use_diou, use_far_loss, use_pose_score  # noqa: E402
from dpose_yolo.engine.durable import DurableTrainer  # noqa: E402
from dpose_yolo.engine.given import merged_settings, with_run_folder  # noqa: E402
from dpose_yolo.engine.graph import EngineModel  # noqa: E402
from dpose_yolo.engine.memory import carry_images, is_carried, pack_images  # noqa: E402
from dpose_yolo.engine.readout import ReadoutTerm, add_readout  # noqa: E402
from dpose_yolo.engine.ready import ready_engine  # noqa: E402
from dpose_yolo.engine.rendered import RenderedDraws, read_rendered  # noqa: E402
from dpose_yolo.engine.replay import ReplayDataset  # noqa: E402
from dpose_yolo.engine.run_files import arguments_in_one_step, with_whole_paths  # noqa: E402
from dpose_yolo.errors import DPoseError  # noqa: E402
from dpose_yolo.hints import not_a_pose_model  # noqa: E402
from dpose_yolo.posture.carried import CarriedPostures  # noqa: E402
from dpose_yolo.recipe import recipe, recipe_line  # noqa: E402
from dpose_yolo.report.drawing import replacing  # noqa: E402

ready_engine()

# Keys that the engine accepts besides its own defaults.
ENGINE_EXTRA = ("augmentations", "save_dir")


class DPoseTrainer(DurableTrainer):
    """Trains a pose model with posture-balanced sampling (paper 3.2) and keypoint attention (paper 3.3).

    Everything else is Ultralytics': models, augmentation, validation, checkpoints, export, multi-GPU. Settings that are
    not given come from `cfg/recipe.yaml`; with `recipe=ultralytics balance=0 att=0` it is Ultralytics' `PoseTrainer` to
    the last digit, with `balance=0 att=0` alone the same trainer at that recipe. A run that is broken off is resumed
    exactly (`DurableTrainer`).

    Examples:
        >>> DPoseTrainer("paper", data="data/cabin_mini.yaml").train()  # a preset or a YAML path
        >>> DPoseTrainer(model="dpose-125.yaml", data="data/cabin_mini.yaml", clusters=16).train()
        >>> YOLO("yolo11n-pose.pt").train(trainer=DPoseTrainer, data="data/cabin_mini.yaml", att=0.5)
    """

    MAY_MOVE: tuple[str, ...] = ("render",)  # settings of files that a resumed run takes from the user, besides `data`
    COMMAND = "train"  # default name of the run
    COMMANDS: tuple[str, ...] = ()  # whose own settings belong to the trainer's, see `settings.specification`
    data: dict[str, Any]  # Ultralytics' data dictionary

    def __init__(
        self,
        cfg: str | Path | Mapping[str, Any] | SimpleNamespace = DEFAULT_CFG,
        overrides: Mapping[str, Any] | None = None,
        _callbacks: dict | None = None,
        **settings: Any,
    ):
        """Check all settings, then build the engine's trainer.

        Args:
            cfg: path or preset name of a YAML of settings, a dict of settings, or the engine's default configuration.
            overrides: settings that go before those of `cfg`.
            _callbacks: the engine's callbacks.
            **settings: settings that go before all others. Engine and DPOSE settings are told apart by name.

        Raises:
            DPoseError: for unknown settings, values out of range, and a data file that is not there.
        """
        given = with_run_folder(merged_settings(cfg, overrides or {}, settings), self.COMMAND)
        own = dpose_settings.specification(*self.COMMANDS)
        dpose_settings.refuse_unknown(given, [*DEFAULT_CFG_DICT, *ENGINE_EXTRA], *self.COMMANDS)
        engine = {k: v for k, v in given.items() if k not in own}
        asked = with_whole_paths({k: v for k, v in given.items() if k in own}, ("render",))
        self.dpose = dpose_settings.resolve(asked, *self.COMMANDS)
        self._refuse_combinations(engine)
        engine = checks.run_to_resume(engine)
        dpose_settings.refuse_engine_values(engine)
        if engine.get("resume"):
            checks.require_checkpoint(engine["resume"], "finetune" in self.COMMANDS)
        else:
            images = checks.require_data(engine.get("data"), outside=self.dpose["outside"])["train"]
            if self._rendered():
                checks.require_data_file(self.dpose["render"], "render")
                checks.require_data(self.dpose["render"], ("train",), self.dpose["outside"])
            engine["model"] = checks.require_model_file(engine.get("model") or "dpose-125.yaml")
            for name in ("pretrained", "distill_model"):
                if isinstance(engine.get(name), str | Path):
                    checks.require_lender(name, engine[name])
            taken = recipe({**engine, "recipe": self.dpose["recipe"]}, images)
            if RANK in {-1, 0} and (taken or self.dpose["recipe"] == "ultralytics"):
                LOGGER.info(recipe_line(taken, engine, images))
            engine = {**taken, **{k: v for k, v in engine.items() if k not in taken}}
        self.draws: Any = None  # `BalancedDraws`, or what `make_draws` puts in its place
        self._postures: CarriedPostures | None = None
        self._render_data: dict[str, Any] | None = None
        self._remembered: dict[str, Any] | None = None
        self._visible = 2
        try:
            with checks.engine_errors("the settings cannot be used"), arguments_in_one_step():
                super().__init__(DEFAULT_CFG, with_whole_paths(engine), _callbacks)
        except BaseException:
            self.leave_nothing()
            raise
        if self.resume:
            # The engine has put the checkpoint there; whoever starts from the record of this run means its own start.
            self.args.model = read_checkpoint(engine["resume"])["train_args"].get("model", self.args.model)
            self._take_settings_from_checkpoint(asked)
        self._keep_settings()

    def _refuse_combinations(self, engine: Mapping[str, Any]) -> None:
        """Settings that each are right but do not go together."""
        if self.dpose["att"] > 0 and engine.get("compile"):
            raise DPoseError(
                "compile cannot be used with the attention term: compiled graphs drop the second derivative; "
                "set compile=False or att=0"
            )
        if self.dpose["att"] > 0 and self.dpose["att_map"] == "gradcam" and engine.get("distill_model"):
            raise DPoseError(  # its second pass would be taken for the student's features
                "distill_model cannot be used with the maps of Grad-CAM: set att_map=readout, or att=0"
            )
        if self.dpose["memory"] and not self.draws_postures():
            raise DPoseError("memory= chooses images by their postures, which balance=0 does not look at: set memory=0")
        if self._rendered() and engine.get("rect"):
            raise DPoseError(
                "rect=True cannot be used with render=, whose images may be of another shape: set rect=False"
            )
        if self.dpose["lr_drop"] and engine.get("time"):
            raise DPoseError("lr_drop is an epoch, and time= changes how many there are: set one of them only")

    def _take_settings_from_checkpoint(self, asked: Mapping[str, Any]) -> None:
        """A resumed run goes on with the settings it started with."""
        saved = {k: v for k, v in vars(self.args).items() if k in self.dpose}
        resumed = dpose_settings.resolve(saved, *self.COMMANDS)
        resumed["outside"] |= self.dpose["outside"]
        own = dpose_settings.specification(*self.COMMANDS)
        here = [k for k in self.MAY_MOVE if asked.get(k) and resumed[k] and not is_carried(resumed[k])]
        resumed |= {k: own[k].check(asked[k]) for k in here}
        changed = [k for k, v in asked.items() if resumed[k] != own[k].check(v)]
        if changed:
            LOGGER.warning(f"resume ignores {', '.join(changed)}: the run goes on with the settings it started with")
        self.dpose = resumed

    def _keep_settings(self) -> None:
        """Add the DPOSE settings to the engine's arguments, to be saved and handed to multi-GPU workers with them."""
        for name, value in self.dpose.items():
            setattr(self.args, name, value)
        if RANK in {-1, 0}:
            with replacing(self.save_dir / "args.yaml") as temporary:
                YAML.save(temporary, vars(self.args))

    # Data

    def get_dataset(self) -> dict[str, Any]:
        """The engine's data dictionary; errors come as one line."""
        checks.require_data_file(self.args.data)
        with checks.engine_errors(f"data={self.args.data} cannot be used"):
            found = check_det_dataset(self.args.data, autodownload=False)  # a missing part is no download
        if not (self.dpose["outside"] or getattr(self.args, "outside", False)):  # the latter when resumed
            checks.refuse_outside(found)
        with checks.engine_errors(f"data={self.args.data} cannot be used"):
            data = super().get_dataset()
        checks.require_kpt_shape(data, self.args.data)
        return data

    def build_dataset(self, img_path: str, mode: str = "train", batch: int | None = None) -> Any:
        """The dataset of Ultralytics, with the rendered images behind it where there are any."""
        dataset = self._checked_dataset(img_path, mode, batch)
        if mode != "train" or not self._rendered():
            return dataset
        here, self.data = self.data, self.rendered_data()  # the engine reads keypoints and mirroring there
        try:
            rendered = self._checked_dataset(self.data["train"], mode, batch)
        finally:
            self.data = here
        return ReplayDataset(dataset, rendered, (f"data={self.args.data}", f"render={self.dpose['render']}"))

    def _rendered(self) -> bool:
        """Whether rendered images are mixed into the batches."""
        return bool(self.dpose["render"]) and self.dpose["render_share"] > 0

    def rendered_data(self) -> dict[str, Any]:
        """Ultralytics' data dictionary of the rendered images."""
        if self._render_data is None:
            shown, outside = str(self.args.data), self.dpose["outside"]
            classes = not self.args.single_cls  # else Ultralytics has renamed those of the photographs
            self._render_data = read_rendered(self.dpose["render"], self.data, shown, outside, classes)
        return self._render_data

    def _checked_dataset(self, img_path: str, mode: str, batch: int | None) -> Any:
        """The engine's dataset, refused if a part of the user's images would silently be left out of it."""
        part = "training" if mode == "train" else "validation"
        told = words.fewer_words(5 if self.dpose["skip_bad"] else 0)
        with checks.engine_errors(f"the {part} part {img_path} cannot be used", self.data["kpt_shape"]), told:
            dataset = super().build_dataset(img_path, mode, batch)
        if not self.dpose["skip_bad"]:
            label_checks.refuse_unusable(dataset, part)
        return dataset

    def get_dataloader(self, dataset_path: str, batch_size: int = 16, rank: int = 0, mode: str = "train") -> Any:
        """The engine's loader; its training sampler is replaced by the balanced one if `balance` is above 0."""
        loader = super().get_dataloader(dataset_path, batch_size, rank, mode)
        if mode != "train":
            return loader
        self._visible = min(label_checks.require_keypoints(loader.dataset.labels, "training"), 2)
        if self.draws_postures():
            with torch_distributed_zero_first(LOCAL_RANK):  # one rank fits, the others read its mixture
                self.draws = self.make_draws(loader.dataset)
            # The engine hands over the rank within this machine; draws are shared among all machines.
            shared = rank != -1 and dist.is_available() and dist.is_initialized()
            if shared:
                self.draws.share()
            self.draws.install(loader, *((dist.get_rank(), dist.get_world_size()) if shared else (0, 1)))
            self.draws.seek(self.start_epoch)
        return loader

    def draws_postures(self) -> bool:
        """Whether images are drawn by postures; the engine draws them otherwise."""
        return self.dpose["balance"] > 0 or self._rendered()

    def make_draws(self, dataset: Any) -> BalancedDraws | RenderedDraws:
        """What the training images are drawn by."""
        if self.args.time and self.dpose["balance_end"] < 1:
            LOGGER.info("Postures: the balance does not fade, since time= leaves open how many epochs there will be")
        epochs = None if self.args.time else self.epochs
        if self._rendered():
            rendered = self.rendered_data()
            return RenderedDraws(dataset, self.data, rendered, self.dpose, self.args.seed, epochs)
        return BalancedDraws(dataset, self.data, self.dpose, self.args.seed, epochs=epochs)

    def resume_training(self, ckpt: dict | None) -> None:
        """The engine's, and the sampler goes on where the run was broken off."""
        super().resume_training(ckpt)
        if self.draws:
            self.draws.seek(self.start_epoch)

    def _close_dataloader_mosaic(self) -> None:
        """The engine's; the loader is restarted after it, so this epoch's draws must be made again, not the next's."""
        super()._close_dataloader_mosaic()
        if self.draws:
            self.draws.seek(self.epoch)

    def preprocess_batch(self, batch: dict) -> dict:
        """The engine's, with the drawn images counted."""
        if self.draws:
            self.draws.count(batch)
        return super().preprocess_batch(batch)

    def _handle_nan_recovery(self, epoch: int) -> bool:
        """The engine's; an epoch that is done again draws the same images again."""
        recovered = super()._handle_nan_recovery(epoch)
        if recovered and self.draws:
            self.train_loader.reset()
            self.draws.seek(epoch)
            self._watched().restarted(following=True)
        return recovered

    # Model and criterion

    def setup_model(self) -> dict[str, Any] | None:
        """The engine's; a file that cannot be loaded, or holds more than a model, gets a clear line."""
        with checks.engine_errors(f"model={self.args.model} cannot be loaded"):
            return super().setup_model()

    def get_model(self, cfg: Any = None, weights: EngineModel = None, verbose: bool = True) -> EngineModel:
        """The engine's; a model that is not a pose model gets a clear line."""
        task = getattr(weights, "task", "pose")
        if (
            task != "pose" and isinstance(cfg, Mapping) and "kpt_shape" not in cfg
        ):  # not `pretrained`, which lends parts
            raise DPoseError(not_a_pose_model(self.args.model, task, lends=True))
        with checks.engine_errors(f"model={self.args.model} cannot be used as a pose model"):
            model = super().get_model(cfg, weights, verbose)
            if self.dpose["att"] > 0 and self.dpose["att_map"] == "readout":
                add_readout(model, self.dpose, weights)
            return model

    def build_optimizer(self, *args: Any, **kwargs: Any) -> torch.optim.Optimizer:
        """The engine's; an unknown optimizer gets a clear line."""
        with checks.engine_errors(f"optimizer={self.args.optimizer} cannot be used"):
            return super().build_optimizer(*args, **kwargs)

    def _setup_train(self) -> None:
        """The engine's, then the DPOSE criteria on the live model and on its moving average."""
        if self.device.type == "cpu":
            keep_freed_memory()
        super()._setup_train()
        if self.args.channels_last and self.device.type == "cpu":
            # The engine keeps this to CUDA; on a CPU with oneDNN it can pay too. The live model only:
            # its average, which is validated, fused and saved, keeps the engine's layout.
            unwrap_model(self.model).to(memory_format=torch.channels_last)
        self._attach()

    def _load_checkpoint_state(self, ckpt: dict) -> None:
        """The engine's, which copies the live model: without our criterion and hooks, so that none is ever saved."""
        attached = self._detach()
        super()._load_checkpoint_state(ckpt)
        if attached:
            self._attach()

    def _build_train_pipeline(self) -> None:
        """The engine's; after running out of memory, nothing of the failed step may be held any longer."""
        for criterion in self._criteria():
            criterion.forget()
        super()._build_train_pipeline()

    def _criteria(self) -> list[DPoseCriterion]:
        """Our criteria that are in place: of the live model first, then of its average."""
        models = [unwrap_model(self.model)] if isinstance(self.model, torch.nn.Module) else []
        models += [self.ema.ema] if self.ema else []
        found = [getattr(m, "criterion", None) for m in models]
        return [c for c in found if isinstance(c, DPoseCriterion)]

    def _attach(self) -> None:
        """Put the box loss and the attention term around the criteria of the live model and of its average."""
        for whole, live in ((unwrap_model(self.model), True), (self.ema.ema, False)):
            model = learner(whole)
            # A plain dict: the checkpoint stays loadable where this package is not installed.
            model.dpose = dict(self.dpose)
            if self.draws:  # the postures of the data travel with the model, for whoever fine-tunes it
                carry_on(model, self.trained_postures())
            if self.dpose["memory"] and RANK in {-1, 0}:
                carry_images(model, self.remembered_images())
            if not self._changes_criterion():
                continue
            criterion = getattr(model, "criterion", None) or model.init_criterion()
            if self.dpose["box_loss"] == "diou":
                use_diou(criterion)
            if self.dpose["kpt_far"] > 0:
                use_far_loss(criterion, self.dpose["kpt_far"])
            if self.dpose["pose_score"] > 0:
                use_pose_score(criterion, self.dpose["pose_score"])
            if self.dpose["att"] > 0:
                term: AttentionTerm | ReadoutTerm
                if self.dpose["att_map"] == "readout":
                    term = ReadoutTerm(model, self.dpose, live)
                else:
                    term = AttentionTerm(model, self.dpose, self.args.seed, self._visible, live)
                if live:
                    self._refuse_frozen(model, term.layers[-1])
                criterion = DPoseCriterion(criterion, term, self.dpose["att"], self.dpose["att_interval"])
                if live and RANK in {-1, 0}:
                    how = self.dpose["att_map"]
                    how += f", order {self.dpose['att_order']}" if how == "gradcam" else ""
                    LOGGER.info(f"Attention: layers {term.layers}, maps by {how}")
            model.criterion = criterion

    def trained_postures(self) -> CarriedPostures:
        """The postures that the model has seen when it is trained."""
        if self._postures is None:
            held_out = self.test_loader.dataset.labels
            self._postures = training_postures(self.draws.mixture, self.draws.table, held_out, self.data)
        return self._postures

    def remembered_images(self) -> dict[str, Any]:
        """The training images that the checkpoint carries."""
        if self._remembered is None:
            count, parts = self.dpose["memory"], self.drawn_parts()
            labels = [(part.dataset.labels, part.plan.cluster) for part in parts]
            self._remembered = pack_images(labels, count, self.args.imgsz, self.data, self.args.seed)
            LOGGER.info(f"Memory: the checkpoints carry {len(self._remembered['sizes'])} training images")
        return self._remembered

    def drawn_parts(self) -> list[BalancedDraws]:
        """The sets of photographs that training images are drawn from."""
        return [self.draws.new if isinstance(self.draws, RenderedDraws) else self.draws]

    def _changes_criterion(self) -> bool:
        """Whether any setting asks for other losses than the engine's."""
        weights = ("att", "kpt_far", "pose_score")
        return self.dpose["box_loss"] != "ciou" or any(self.dpose[name] > 0 for name in weights)

    def _refuse_frozen(self, model: EngineModel, last: int) -> None:
        """The layers up to the map are what the term changes, and all it changes in the first order."""
        second = self.dpose["att_map"] == "gradcam" and self.dpose["att_order"] == 2
        if not second and not any(p.requires_grad for p in model.model[: last + 1].parameters()):
            raise DPoseError(
                f"freeze={self.args.freeze} freezes all layers up to {last}, which the attention term would train: "
                "freeze fewer, or set att=0, or att_map=gradcam att_order=2, which trains the layers after them"
            )

    def _detach(self) -> bool:
        """Take our criteria and hooks off again, leaving the engine's own; whether there were any."""
        criteria = self._criteria()
        for criterion in criteria:
            criterion.close()
            criterion.term.model.criterion = criterion.base
        return bool(criteria)

    def _aim_attention(self) -> None:
        """Tell the criteria where the run is: the number of epochs and steps may have changed since the last one."""
        steps = len(self.train_loader)
        first = math.ceil(self.dpose["att_start"] * self.epochs * steps)
        for criterion, live in zip(self._criteria(), (True, False), strict=False):
            criterion.step, criterion.first_step = self.epoch * steps, first
            criterion.validate = not live and self.dpose["att_val"] and (self.epoch + 1) * steps > first

    def _setup_scheduler(self) -> None:
        """The engine's schedule, or the paper's single drop (section 4.2) if `lr_drop` is set."""
        super()._setup_scheduler()
        if self.dpose["lr_drop"]:
            drop, factor = self.dpose["lr_drop"], self.dpose["lr_drop_factor"]
            self.lf = lambda epoch: factor if epoch >= drop else 1.0
            self.scheduler = torch.optim.lr_scheduler.LambdaLR(self.optimizer, lr_lambda=self.lf)

    def get_validator(self) -> PoseValidator:
        """The engine's validator, whose arguments know only the engine's settings."""
        args = copy(self.args)
        for name in self.dpose:
            delattr(args, name)
        return PoseValidator(self.test_loader, save_dir=self.save_dir, args=args, _callbacks=self.callbacks)

    def run_callbacks(self, event: str) -> None:
        """The engine's, and the draws of the epoch are written when it ends."""
        super().run_callbacks(event)
        if event == "on_train_epoch_start":
            self._aim_attention()
        if self.draws and event == "on_train_start" and RANK in {-1, 0}:
            self.draws.report(self.save_dir, plots=bool(self.args.plots))
        if self.draws and event == "on_train_epoch_end":
            self.draws.log(self.save_dir, self.epoch)

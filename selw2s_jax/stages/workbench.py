"""Where stages are made: a group of devices, the model that they hold, the steps compiled for them, and the store."""

import gc
from collections.abc import Callable, Hashable, Sequence

import jax
from etils import epath
from flax import nnx

from selw2s_jax.errors import UserError
from selw2s_jax.hf import loader, pretrained
from selw2s_jax.inference import partials
from selw2s_jax.models import decoder
from selw2s_jax.runtime import artifacts, device_memory, distributed
from selw2s_jax.stages import settings as settings_lib
from selw2s_jax.stages import stage as stage_lib
from selw2s_jax.training import checkpointing, fit


class Workbench:
    """Devices that make one stage at a time, for whichever config: they hold at most one model.

    Args:
        store: artifacts of the workdir.
        workdir: for logs and what is saved under way.
        devices: None for all.

    Attributes:
        store, workdir, devices: those.
        train_steps: compiled ones, by what they are a function of.
        usable_bytes: memory of each device, on all processes the same; None where devices do not say it.
        told: layouts of trainings that were told of.
    """

    def __init__(
        self, store: artifacts.Store, workdir: epath.Path, devices: Sequence[jax.Device] | None = None
    ):
        self.store, self.devices = store, devices
        self.train_steps: dict[Hashable, Callable] = {}
        self.workdir = workdir
        here = device_memory.usable_bytes(jax.devices() if devices is None else devices)
        every = distributed.gather(here)
        self.usable_bytes: int | None = None if None in every else min(every)
        self.told: set[str] = set()
        self._held: tuple[str, nnx.Module] | None = None

    def make(self, stage: stage_lib.Stage) -> None:
        """Makes a stage's artifact, and removes what was saved under way."""
        with self.store.filling(stage.name, stage.inputs) as folder:
            if folder is not None:
                stage.write(folder, self)
        checkpointing.discard(fit.checkpoints_folder(self.workdir, stage.key))

    def check(self, settings: settings_lib.Settings, models: Sequence[pretrained.Model]) -> list[str]:
        """Lays models out on the devices, and checks that those have the attention asked for.

        Returns:
            The devices and the mesh of the strong model, and of the weak one where it has another, for people.

        Raises:
            UserError: devices, mesh and models do not go together.
        """
        meshes = {model.slot: self.mesh_for(settings, model) for model in reversed(models)}
        strong = meshes.pop("strong")
        platform = strong.devices.flat[0].platform
        if settings.execution.attention == "cudnn" and platform != "gpu":
            raise UserError(f"config.execution.attention=cudnn needs a GPU, found {platform}: set it to xla")
        others = [
            f"the {role} model on {settings.describe(mesh)}"
            for role, mesh in meshes.items()
            if mesh != strong
        ]
        return [settings.describe(strong), *others]

    @property
    def num_devices(self) -> int:
        return jax.device_count() if self.devices is None else len(self.devices)

    @property
    def platform(self) -> str:
        return (self.devices or jax.devices())[0].platform

    def mesh_for(self, settings: settings_lib.Settings, model: pretrained.Model) -> jax.sharding.Mesh:
        """The devices as a model is laid out on them that is read."""
        return settings.mesh_for(model, self.devices, self.usable_bytes)

    def tell(self, line: str) -> None:
        """Prints what was not told before."""
        if line not in self.told:
            self.told.add(line)
            print(f"  {line}", flush=True)

    def hold(self, key: str, load: Callable[[], nnx.Module]) -> nnx.Module:
        """The module of that key: the one that the devices hold, or else loaded in its place."""
        if self._held is None or self._held[0] != key:
            self.release()
            self._held = (key, load())
        return self._held[1]

    def hold_untouched(
        self, settings: settings_lib.Settings, model: pretrained.Model, *, answers: bool = False
    ) -> decoder.Decoder:
        """A model as it was pretrained, for all that only read it; the strong one has its language-model head.

        Args:
            answers: whether it has that head whichever it is.
        """
        options = settings.language_model_options(model, self.mesh_for(settings, model))
        options["lm_head"] |= answers
        # Runs of a sweep may differ in what a stage's key has and in what it has not.
        named = [model.fingerprint, *(options[name] for name in ("compute_dtype", "attention", "lm_head"))]
        return self.hold(f"untouched {named}", lambda: loader.load_decoder(model.folder, **options))

    def keep(self, key: str, module: nnx.Module) -> None:
        """Keeps a module on the devices for the stage that comes next."""
        self._held = (key, module)

    def release(self) -> None:
        """Lets go of the module, to make room for another."""
        self._held = None
        gc.collect()  # nnx.merge leaves reference cycles, which would keep the arrays on the devices

    def files(self, stage: stage_lib.Stage, settings: settings_lib.Settings) -> fit.Files:
        """Where a training keeps what it writes under way."""
        return fit.Files(
            self.workdir,
            stage.label,
            stage.key,
            settings.checkpoint,
            settings.logging,
            before_save=self.store.check_held,
            inputs=stage.inputs,
        )

    def partial(self, stage: stage_lib.Stage) -> partials.Partial:
        """What a stage that goes over the examples of a split has done already."""
        return partials.Partial(fit.checkpoints_folder(self.workdir, stage.key) / "scores.npz")

"""Sweeps: their cells, stages that are made once, shards of the work, and groups of devices."""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import threading

import ml_collections
import numpy as np
import pytest
from support import commands, paths, sweeps

from selw2s_jax import config as config_lib
from selw2s_jax.errors import UserError
from selw2s_jax.run import pipeline, schedule, student_models, students, sweep
from selw2s_jax.runtime import preemption
from selw2s_jax.stages import stage as stage_lib


def with_sweep(config: ml_collections.ConfigDict, **axes) -> ml_collections.ConfigDict:
    config.sweep.update(axes)
    return config_lib.normalize(config)


def test_a_config_without_axes_is_its_own_cell():
    config = with_sweep(config_lib.default_config())
    (cell,) = sweep.expand(config)
    assert (cell.name, cell.axes) == ("", {})
    assert config_lib.to_json(cell.config) == config_lib.to_json(config)


def test_cells_are_the_product_of_the_axes():
    config = with_sweep(
        config_lib.default_config(),
        tasks=("sciq", "boolq"),
        pairs=("gpt2:qwen-14b",),
        settings=("data.num_train=7,9", "p_ik.stage=joint", "compat.openai_pooling=true", "seeds=3,5"),
    )
    cells = sweep.expand(config)
    assert len(cells) == 8 and len({cell.config_hash for cell in cells}) == 8
    last = cells[-1]
    assert last.name == (
        "task=boolq,weak=gpt2,strong=qwen-14b,data.num_train=9,p_ik.stage=joint,compat.openai_pooling=True,seeds=5"
    )
    assert last.axes["weak.model"] == last.config.weak.model == "gpt2"
    assert last.config.data.num_train == 9 and last.config.compat.openai_pooling is True
    assert last.config.seeds == (5,)
    assert not any(last.config.sweep.values()), "a cell is a run of its own"


def test_names_of_cells_are_fit_for_folders():
    config = with_sweep(
        config_lib.default_config(), settings=("weak.model=a/b,a b", f"strong.model={'x' * 300}")
    )
    names = [cell.name for cell in sweep.expand(config)]
    assert len(set(names)) == 2
    assert all("/" not in name and " " not in name and len(name) < 140 for name in names)


def test_meshes_are_an_axis():
    cells = sweep.expand(with_sweep(config_lib.default_config(), settings=("mesh.shape=1x8x1,2x2x2",)))
    assert [cell.axes["mesh.shape"] for cell in cells] == [(1, 8, 1), (2, 2, 2)]
    assert [tuple(cell.config.mesh.shape) for cell in cells] == [(1, 8, 1), (2, 2, 2)]
    assert [cell.name for cell in cells] == ["mesh.shape=1x8x1", "mesh.shape=2x2x2"]


def test_an_axis_may_have_no_value_among_its_values():
    config = with_sweep(
        config_lib.default_config(), settings=("data.num_test=None,50", "mesh.shape=null,1x1x1")
    )
    cells = sweep.expand(config)
    assert [(cell.config.data.num_test, cell.config.mesh.shape) for cell in cells] == [
        (None, None), (None, (1, 1, 1)), (50, None), (50, (1, 1, 1)),
    ]  # fmt: skip
    assert cells[0].name == "data.num_test=None,mesh.shape=None"
    with pytest.raises(UserError, match=r"data\.num_train=None is no int"):
        sweep.expand(with_sweep(config_lib.default_config(), settings=("data.num_train=None",)))


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ({"settings": ("data.num_trian=3",)}, "no key of the config; did you mean 'data.num_train'?"),
        ({"settings": ("data.num_train=3,x",)}, "data.num_train=x is no int"),
        ({"settings": ("data.num_train",)}, "'data.num_train' has no values"),
        ({"settings": ("data.num_train=",)}, "'data.num_train=' has no values"),
        ({"settings": ("lora.targets=mlp",)}, "lora.targets holds a tuple"),
        ({"settings": ("mesh.shape=1x2",)}, "mesh.shape=1x2 is no mesh"),
        ({"settings": ("methods=finetune",)}, "methods is no axis"),
        ({"settings": ("sweep.tasks=sciq",)}, "no key of the config"),
        ({"settings": ("p_ik.gamma=0.5,0.50",)}, "has the run 'p_ik.gamma=0.5' twice"),
        ({"tasks": ("sciq",), "settings": ("task=boolq",)}, "task on two axes"),
        ({"pairs": ("gpt2",)}, "'gpt2' is no pair"),
        ({"pairs": ("gs://a:gs://b",)}, "whose names have a colon"),
    ],
)
def test_axes_that_cannot_be(axes, message):
    with pytest.raises(UserError, match=r"config\.sweep") as info:
        sweep.expand(with_sweep(config_lib.default_config(), **axes))
    assert message in str(info.value)


# Runs.


def records(report) -> list[dict]:
    return report["records"]


def plain(config, noise: float):
    config.sweep.settings = ()
    config.weak.label_noise = noise
    return config


@pytest.fixture(scope="module")
def swept(prepared, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("sweep") / "run"
    return workdir, pipeline.run(sweeps.make_sweep(prepared), workdir)


@pytest.mark.slow
def test_a_sweep_is_its_runs_with_shared_stages_made_once(prepared, swept, tmp_path):
    workdir, reports = swept
    described = json.loads((workdir / "sweep.json").read_text())["cells"]
    assert (
        [cell["name"] for cell in described]
        == list(reports)
        == ["weak.label_noise=0.0", "weak.label_noise=0.25"]
    )
    num_stages = 0
    for cell, noise in zip(described, (0.0, 0.25), strict=True):
        alone = pipeline.run(plain(sweeps.make_sweep(prepared), noise), tmp_path / str(noise))
        folder = workdir / "runs" / cell["name"]
        found = json.loads((folder / "results.json").read_text())
        assert found["records"] == records(alone) == records(reports[cell["name"]])
        assert found["manifest"]["students"] == alone["manifest"]["students"]
        assert cell["stages"] == [stage["key"] for stage in alone["manifest"]["stages"]]
        num_stages = len(cell["stages"])
    # Only the student that the labels teach, and its evaluation, differ.
    assert len(list(workdir.glob("artifacts/*/*"))) == num_stages + 2
    assert records(reports["weak.label_noise=0.0"]) != records(reports["weak.label_noise=0.25"])


@pytest.mark.slow
def test_shards_share_out_the_work_and_the_last_one_writes_the_results(prepared, swept, tmp_path, capsys):
    whole, _ = swept
    workdir = tmp_path / "run"
    made = []
    for number in range(3):
        reports = pipeline.run(sweeps.make_sweep(prepared), workdir, shard=(number, 3))
        made.append({path.name for path in workdir.glob("artifacts/*/*")})
        assert ("are left to other shards" in capsys.readouterr().out) == (number < 2)
    assert made[0] < made[1] < made[2]
    for name in reports:
        expected = json.loads((whole / "runs" / name / "results.json").read_text())
        assert records(reports[name]) == expected["records"]


@pytest.mark.slow
def test_shards_side_by_side_wait_for_what_both_need(prepared, swept, tmp_path):
    """Two processes: whichever comes first to a shared stage makes it."""
    whole, _ = swept
    script = tmp_path / "shard.py"
    script.write_text(
        "import pathlib, sys\n"
        f"sys.path.insert(0, {str(paths.TESTS)!r})\n"
        "from support import refusals, sweeps\n"
        "from selw2s_jax.run import pipeline\n"
        "data, model, workdir, number = sys.argv[1:]\n"
        "prepared = refusals.Prepared(pathlib.Path(data), pathlib.Path(model))\n"
        "pipeline.run(sweeps.make_sweep(prepared), workdir, shard=(int(number), 2))\n"
    )
    workdir = tmp_path / "run"
    command = [sys.executable, str(script), str(prepared.data), str(prepared.model), str(workdir)]
    running = [
        subprocess.Popen([*command, str(number)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for number in range(2)
    ]
    outputs = [process.communicate()[0] for process in running]
    assert [process.returncode for process in running] == [0, 0], outputs
    for path in (whole / "runs").glob("*/results.json"):
        found = json.loads((workdir / "runs" / path.parent.name / "results.json").read_text())
        assert found["records"] == json.loads(path.read_text())["records"]


@pytest.mark.slow
def test_a_shard_with_another_config_is_refused(prepared, tmp_path, capsys):
    workdir = tmp_path / "run"
    pipeline.run(sweeps.make_sweep(prepared), workdir, shard=(0, 3))
    other = sweeps.make_sweep(prepared, training__learning_rate=0.5)
    with pytest.raises(
        UserError, match=r"shard 1/3 has another config.training.learning_rate than the unfinished run"
    ):
        pipeline.run(other, workdir, shard=(1, 3))
    for number in (1, 2):
        pipeline.run(sweeps.make_sweep(prepared), workdir, shard=(number, 3))
    # A new run, as that one is done.
    pipeline.run(sweeps.make_sweep(prepared, p_ik__num_train=10), workdir, shard=(1, 3))


def test_groups_that_do_not_divide_the_devices_are_refused(prepared, tmp_path):
    with pytest.raises(UserError, match="num_groups=2 does not divide the 1 devices"):
        pipeline.run(sweeps.make_sweep(prepared, mesh__num_groups=2), tmp_path / "run")


GROUPS = """
import json, pathlib, sys
sys.path.insert(0, sys.argv[5])
from support import refusals
from selw2s_jax.run import pipeline
prepared = refusals.Prepared(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
config = refusals.make_config(
    prepared,
    methods=("finetune", "confidence", "reverse_kl", "selective_without_ik"),
    mesh__num_groups=int(sys.argv[4]),
    mesh__shape=tuple(json.loads(sys.argv[6])),
)
pipeline.run(config, sys.argv[3])
"""


@pytest.mark.slow
def test_four_students_on_two_devices_each_equal_sequential_runs(prepared, tmp_path):
    """8 devices in 4 groups of 2, against one stage after the other on the same layout of 2 devices."""
    predictions = {}
    for num_groups, num_devices in ((4, 8), (1, 2)):
        workdir = tmp_path / f"{num_groups} groups"
        arguments = (
            prepared.data,
            prepared.model,
            workdir,
            num_groups,
            paths.TESTS,
            "[1, 2, 1]",
        )
        done = subprocess.run(
            [sys.executable, "-c", GROUPS, *map(str, arguments)],
            env=os.environ | {"XLA_FLAGS": commands.xla_flags(num_devices)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        if num_groups == 4:
            assert all(f"group {number}, " in done.stdout for number in range(4))
        predictions[num_groups] = {
            path.relative_to(workdir): read_predictions(path)
            for path in sorted(workdir.glob("artifacts/predictions/*"))
        }
    assert predictions[4].keys() == predictions[1].keys() and len(predictions[1]) == 7
    for path, table in predictions[1].items():
        for name, column in table.items():
            np.testing.assert_array_equal(predictions[4][path][name], column, err_msg=f"{path} {name}")


def read_predictions(folder: pathlib.Path) -> dict[str, np.ndarray]:
    import pyarrow.parquet as pq

    table = pq.ParquetFile(folder / "predictions.parquet").read()
    return {name: table[name].to_numpy() for name in table.column_names}


# The order of stages.


@dataclasses.dataclass(frozen=True, eq=False)
class Nothing(stage_lib.Stage):
    """A stage that makes nothing."""

    name = "train"
    of: tuple[stage_lib.Stage, ...]

    @property
    def needs(self):
        return self.of

    @property
    def inputs(self):
        return {"name": self.label}


def make_stage(name: str, *needs: stage_lib.Stage) -> Nothing:
    return Nothing(name, needs)


class Bench:
    """In the place of a workbench."""

    def __init__(self, make):
        self.make = make


def test_groups_make_each_stage_once_and_after_what_it_needs():
    rng = np.random.default_rng(0)
    chosen: list[stage_lib.Stage] = []
    for number in range(40):
        needs = rng.choice(len(chosen), size=min(len(chosen), rng.integers(3)), replace=False)
        chosen.append(make_stage(str(number), *(chosen[i] for i in needs)))
    made, lock = [], threading.Lock()

    def make(stage: stage_lib.Stage) -> None:
        with lock:
            assert {need.key for need in stage.needs} <= set(made)
            made.append(stage.key)

    schedule.make_all(chosen, [Bench(make) for _ in range(4)], {stage.key: "" for stage in chosen})
    assert sorted(made) == sorted(stage.key for stage in chosen)


def test_what_others_make_comes_last():
    first, second = make_stage("first"), make_stage("second")
    third = make_stage("third", first)
    made = []
    stages = [first, second, third]
    bench = Bench(lambda stage: made.append(stage.label))
    schedule.make_all(stages, [bench], {stage.key: "" for stage in stages}, lambda: {f"train-{first.key}"})
    assert made == ["second", "first", "third"]


@pytest.mark.parametrize("error", [UserError("this one"), preemption.Preempted("this one")])
def test_a_stage_that_fails_ends_the_others_after_theirs(error):
    first, second = make_stage("first"), make_stage("second")
    third = make_stage("third", second)
    under_way, failed = threading.Event(), threading.Event()
    made = []

    def fail() -> None:
        under_way.wait()
        failed.set()
        raise error

    def finish() -> None:
        under_way.set()
        failed.wait()
        made.append("second")

    makers = {first.key: fail, second.key: finish, third.key: lambda: made.append("third")}
    bench = Bench(lambda stage: makers[stage.key]())
    with pytest.raises(type(error), match="this one"):
        schedule.make_all([first, second, third], [bench, bench], dict.fromkeys(makers, ""))
    assert made in (["second"], ["second", "third"])  # the third may be taken before the failure is known


# Students of a sweep.


@pytest.mark.slow
def test_students_of_a_sweep_are_found_by_run_where_several_have_the_name(swept):
    workdir, _ = swept
    name = {"task": "sciq", "seed": 0}
    only = students.find(workdir, method="p_ik_only", **name)
    assert only.folder.parent == workdir / "runs", "both runs share it"
    with pytest.raises(
        UserError, match=r"^run is missing: .* has weak.label_noise=0.0, weak.label_noise=0.25"
    ):
        students.find(workdir, method="finetune", **name)
    with pytest.raises(UserError, match=r"run weak.label_noise=0.3 is not there"):
        students.find(workdir, method="finetune", run="weak.label_noise=0.3", **name)
    found = students.find(workdir, method="finetune", run="weak.label_noise=0.25", **name)
    described = json.loads((workdir / "runs" / "weak.label_noise=0.25" / "manifest.json").read_text())
    (key,) = [entry["key"] for entry in described["students"] if entry["method"] == "finetune"]
    assert found.artifact.key == key
    assert student_models.load(found).class_head.shape == (2, 16)

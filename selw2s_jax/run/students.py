"""Trained models of a run, found by workdir, task, method and seed from what the run kept alone.

The weak model and the ceiling are named as the methods "weak" and "ceiling".
"""

import contextlib
import dataclasses
import difflib
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

from etils import epath

from selw2s_jax import errors
from selw2s_jax.data import members, model_names, prompts, tasks
from selw2s_jax.errors import UserError
from selw2s_jax.models import lora as lora_lib
from selw2s_jax.models import registry
from selw2s_jax.run import manifests, written_facts
from selw2s_jax.runtime import artifacts, json_forms

_STAGE = "train"  # the kind of stage that makes them
# What is read of a manifest; keys with a question mark are missing in those of earlier versions.
_ENTRY = {
    **dict.fromkeys(("task", "method", "key", "prompt", "instruction"), str),
    "seed": int,
    "role": str,
    "model?": str,
    "has_class_head": bool,
    "shots": [list],
    "is_plain_text?": bool,
    "written?": dict,
    "learnt?": str,
}
_NUMBER = (float, int)
_MODEL = {
    "name": str,
    "folder?": str,
    "fingerprint": str,
    "max_length": int,
    "sizes": {
        "family": str,
        **dict.fromkeys(("num_layers", "embed_dim", "num_heads", "head_dim", "mlp_dim", "vocab_size"), int),
        "max_seq_len": int,
        "norm_eps": _NUMBER,
        "rope_base": (*_NUMBER, type(None)),
        "tie_embeddings": bool,
        **dict.fromkeys(("num_kv_heads?", "sliding_window?"), (int, type(None))),
        "rotary_fraction?": (*_NUMBER, type(None)),
        "parallel_residual?": bool,
        "activation?": (str, type(None)),
    },
    "tokenizer": {"folder": str, "fingerprint": str, "bos_id?": (int, type(None))},
}
_FEW_SHOT = {
    "instruction": str,
    "shots": [list],
    "answers": str,
    "stop": [str],
    "chat?": (dict, type(None)),
}
_MANIFEST = {
    "config": {
        "training": {"trained?": str},
        "lora?": {"rank": int, "alpha": _NUMBER, "dropout": _NUMBER, "targets": [str]},
        "compat": {"openai_pooling": bool},
        "precision": {"param_dtype": str, "compute_dtype": str},
    },
    "models": {"strong": _MODEL, "weak?": _MODEL},
    "students": [_ENTRY],
}


@dataclasses.dataclass(frozen=True)
class Facts:
    """What a trained model is, beside its weights.

    Attributes:
        task, method, seed: its name in the run.
        weak, strong: names of the run's models; the former "" in a run that has none.
        role: which of them it was made from, "weak" or "strong".
        has_class_head, has_p_ik_head: whether these heads were trained.
        prompt: form of the classifier input, as `data.prompts.classifier_input` takes it, with the instruction
            and the solved problems (text, answer) that the form needs.
        max_length: longest example, in tokens; longer ones are truncated from the left.
        openai_pooling: whether the last token is the last one with id != 0 (config key of that name).
        param_dtype, compute_dtype: of the run.
        trained: what of the model was trained, of `training.state.TRAINED`.
        lora: how its weights were adapted, None where they were not.
        base_fingerprint: of the pretrained model, as `pretrained.Model` has it.
        tokenizer_fingerprint: of the tokenizer that it was trained with; "" in an export of an earlier version.
        few_shot: what the language model was asked; None in a run of an earlier version.
        bos_id: the token that is put in front of every text that it reads, None for none, as in every run of an earlier
            version.
        is_plain_text: whether the task's questions are texts, which no question and answer are made into.
        written: how a model that writes is asked, which has no heads; None of a classifier.
        learnt: of a weak model, the task whose ground truth it learnt, where that is another one; else "".
    """

    task: str
    method: str
    seed: int
    weak: str
    strong: str
    role: str
    has_class_head: bool
    has_p_ik_head: bool
    prompt: str
    instruction: str
    shots: tuple[tuple[str, int | str], ...]
    max_length: int
    openai_pooling: bool
    param_dtype: str
    compute_dtype: str
    trained: str = "all"
    lora: lora_lib.Settings | None = None
    base_fingerprint: str = ""
    tokenizer_fingerprint: str = ""
    few_shot: prompts.FewShot | None = None
    is_plain_text: bool = False
    bos_id: int | None = None
    written: written_facts.Written | None = None
    learnt: str = ""

    @property
    def supervision(self) -> str:
        """What it learnt, as the config key of that name says."""
        return "class_head" if self.written is None else "completion"

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        fields = {name: getattr(self, name) for name in (field.name for field in dataclasses.fields(self))}
        written = fields.pop("written")
        if not fields["learnt"]:  # as of nearly all
            del fields["learnt"]
        nested = {
            name: value and dataclasses.asdict(value) for name, value in fields.items() if name in _NESTED
        }
        return fields | nested | ({} if written is None else {"written": written.to_json()})

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> "Facts":
        """What `to_json` described, of an earlier version too.

        Raises:
            ValueError, TypeError, KeyError, AttributeError, UserError: they are no such fields.
        """
        read = {
            "shots": tuple((text, label) for text, label in fields["shots"]),
            "few_shot": prompts.FewShot.from_json(fields.get("few_shot")),
            "lora": lora_lib.make_settings(fields.get("trained", "all"), fields.get("lora")),
            "written": written_facts.Written.from_json(fields.get("written")),
        }
        return cls(**fields | read)

    @property
    def base(self) -> str:
        """The name of the model that it was made from."""
        return {"weak": self.weak, "strong": self.strong}[self.role]

    @property
    def bos(self) -> str:
        """The policy by which its tokenizer reads texts as in training, of `hf.bos.POLICIES`."""
        return "off" if self.bos_id is None else "on"

    def classifier_input(self, text: str) -> str:
        """What the model reads for an example's text."""
        return prompts.classifier_input(
            text, prompt=self.prompt, instruction=self.instruction, shots=self.shots
        )


_NESTED = ("lora", "few_shot")  # of facts


@dataclasses.dataclass(frozen=True)
class Student:
    """A trained model of a run that is finished.

    Attributes:
        workdir: of the run.
        folder: of the run's results, that of a cell in a sweep.
        config: sizes of its backbone.
        tokenizer_folder, tokenizer_fingerprint: of the tokenizer that it was trained with.
        base_folder: of the pretrained model; None in a run of an earlier version, which trained all.
        run_config: the config of its run, as JSON values.
    """

    workdir: epath.Path
    folder: epath.Path
    facts: Facts
    artifact: artifacts.Artifact
    config: registry.ModelConfig
    tokenizer_folder: pathlib.Path
    tokenizer_fingerprint: str
    base_folder: pathlib.Path | None
    run_config: dict[str, Any]


def find(
    workdir: epath.PathLike,
    *,
    task: str | None,
    method: str | None,
    seed: int | None,
    run: str | None = None,
) -> Student:
    """The trained model of that name.

    Args:
        task, method, seed: its name; None where the run has one alone.
        run: of a sweep, where several have such a model.

    Raises:
        UserError: no such workdir, run, task, method or seed; not trained yet; or damaged.
    """
    workdir = epath.Path(workdir).expanduser()
    by_run = manifests.read_all(workdir)
    for run_name, manifest in by_run.items():
        with _readable(workdir, run_name):
            json_forms.check(manifest, _MANIFEST)
    task = None if task is None else tasks.canonical_name(task)
    named = ({} if run is None else {"run": run}) | {"task": task, "method": method, "seed": seed}
    entry = _choose(
        workdir,
        [entry | {"run": name} for name, found in by_run.items() for entry in found["students"]],
        named,
    )
    name = entry.pop("run")
    manifest = by_run[name]
    artifact = _find_artifact(workdir, entry.pop("key"), f"{entry['method']}, seed {entry['seed']}")
    has_p_ik_head = artifact.read_json("summary.json").get("p_ik_head", False)  # models that write have none
    with _readable(workdir, name):
        model = manifest["models"][entry.get("model", entry["role"])]
        facts = _make_facts(entry, manifest, has_p_ik_head=has_p_ik_head)
        sizes = registry.ModelConfig.from_json(model["sizes"])
    return Student(
        workdir,
        workdir / manifests.RUNS_FOLDER / name if name else workdir,
        facts,
        artifact,
        sizes,
        pathlib.Path(os.path.join(workdir, model["tokenizer"]["folder"])),
        model["tokenizer"]["fingerprint"],
        pathlib.Path(os.path.join(workdir, model["folder"])) if "folder" in model else None,
        manifest["config"],
    )


@contextlib.contextmanager
def _readable(workdir: epath.Path, run: str) -> Iterator[None]:
    """Turns what a manifest with other values than a run writes leads to into a UserError."""
    try:
        yield
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        folder = workdir / manifests.RUNS_FOLDER / run if run else workdir
        raise UserError(
            f"{folder / manifests.MANIFEST_FILE} is not as a run writes it ({errors.one_line(error)}); run the same "
            f"config in {workdir} again to mend it"
        ) from error


def _choose(workdir: epath.Path, candidates: list[dict[str, Any]], named: dict[str, Any]) -> dict[str, Any]:
    """The one entry that has all values that are named; what has one value alone needs no name."""
    for key, value in named.items():
        known = list(dict.fromkeys(entry[key] for entry in candidates))
        if value is None and len(known) == 1:
            continue
        if value not in known:
            raise UserError(_unknown(workdir, key, value, known))
        candidates = [entry for entry in candidates if entry[key] == value]
    if len({entry["key"] for entry in candidates}) > 1:
        raise UserError(_unknown(workdir, "run", None, [entry["run"] for entry in candidates]))
    return candidates[0]


def _make_facts(entry: dict[str, Any], manifest: dict[str, Any], *, has_p_ik_head: bool) -> Facts:
    """Of a trained model's entry in the manifest of its run, which may be of an earlier version."""
    config, models = manifest["config"], manifest["models"]
    trained = config.get(entry["role"], {}).get("trained") or config["training"].get("trained", "all")
    if entry.get("few_shot") is not None:
        json_forms.check(entry["few_shot"], _FEW_SHOT)
    model = models[entry.get("model", entry["role"])]
    weak = model["name"] if entry["role"] == "weak" else manifests.weak_name(manifest) or ""
    entry = {key: value for key, value in entry.items() if key not in ("supervision", "model")}
    changed = {
        "written": written_facts.Written.from_json(entry.get("written")),
        "shots": tuple(_shot(*shot) for shot in entry["shots"]),
        "few_shot": prompts.FewShot.from_json(entry.get("few_shot")),
    }
    return Facts(
        weak=weak,
        strong=models["strong"]["name"],
        max_length=model["max_length"],
        has_p_ik_head=has_p_ik_head,
        openai_pooling=config["compat"]["openai_pooling"],
        param_dtype=config["precision"]["param_dtype"],
        compute_dtype=config["precision"]["compute_dtype"],
        trained=trained,
        lora=lora_lib.make_settings(trained, config.get("lora", {})),
        base_fingerprint=model["fingerprint"],
        tokenizer_fingerprint=model["tokenizer"]["fingerprint"],
        bos_id=model["tokenizer"].get("bos_id"),
        **(entry | changed),
    )


def _shot(text: Any, answer: Any) -> tuple[str, int | str]:
    if not isinstance(text, str) or not (
        isinstance(answer, str) or (type(answer) is int and answer in (0, 1))
    ):
        raise ValueError(f"{answer!r:.60} is no answer of a solved problem")
    return text, answer


def with_titles(student: Student) -> Facts:
    """The facts of a student, whose models are called what the config calls them for readers."""
    facts, config = student.facts, {"weak": {}, "strong": {}} | student.run_config
    strong = model_names.given(config, "strong", 0) or facts.strong
    weak = facts.weak
    if facts.role == "weak":  # of several it is called weak-0, weak-1 and so on
        number = int(facts.method.partition("-")[2] or 0)
        weak = model_names.given(config, "weak", number) or weak
    return dataclasses.replace(facts, weak=weak, strong=strong)


def find_weak(student: Student) -> list[Student]:
    """The weak models of a student's run and seed, which label together; none in a run that has none.

    Raises:
        UserError: one is not trained yet, or damaged.
    """
    facts = student.facts
    if not facts.weak:
        return []
    run = None if student.folder == student.workdir else student.folder.name
    count = len(members.of(student.run_config))
    names = ["weak"] if count == 1 else [f"weak-{number}" for number in range(count)]
    return [find(student.workdir, task=facts.task, method=name, seed=facts.seed, run=run) for name in names]


def _unknown(workdir: epath.Path, key: str, value: Any, known: Sequence[Any]) -> str:
    there = " ".join(f"the run in {workdir} has {', '.join(map(str, known))}".split())
    if value is None:
        return f"{key} is missing: {there}"
    near = difflib.get_close_matches(str(value), map(str, known), n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    return f"{key} {value} is not there: {there}{hint}"


def _find_artifact(workdir: epath.Path, key: str, label: str) -> artifacts.Artifact:
    artifact = artifacts.Store(workdir).find_by_key(_STAGE, key)
    if artifact is None:
        raise UserError(
            f"{label} is not trained yet in {workdir}; run the same config there again, it continues"
        )
    return artifact

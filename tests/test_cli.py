"""The command line: every key of the config on it, and one line for every mistake."""

import os
import subprocess
import sys

import pytest
from absl import flags
from support import commands, paths

from selw2s_jax import arguments, cli
from selw2s_jax import config as config_lib
from selw2s_jax import main as main_command
from selw2s_jax.errors import UserError
from selw2s_jax.experiments import checks
from selw2s_jax.export import __main__ as export_command
from selw2s_jax.report import __main__ as report_command
from selw2s_jax.runtime import output, preemption

# What the command line gives for every key of the contract: text and parsed value.
COMMAND_LINE = {
    "task": ("boolq", "boolq"),
    "methods": ("finetune,selective", ("finetune", "selective")),
    "seeds": ("0,1", (0, 1)),
    "data.source": ("/some/folder", "/some/folder"),
    "data.num_train": ("100", 100),
    "data.num_test": ("50", 50),
    "data.conversion": ("all", "all"),
    "data.overlong": ("truncate", "truncate"),
    "data.sample": ("first", "first"),
    "data.reshuffle": ("false", False),
    "weak.model": ("gpt2-medium", "gpt2-medium"),
    "strong.model": ("/models/mine", "/models/mine"),
    "p_ik.task": ("cosmos_qa", "cosmos_qa"),
    "p_ik.data": ("easy", "easy"),
    "p_ik.gamma": ("0.7", 0.7),
    "p_ik.weight": ("2", 2.0),
    "p_ik.num_samples": ("4", 4),
    "p_ik.temperature": ("0", 0.0),
    "p_ik.stage": ("frozen", "frozen"),
    "p_ik.mask": ("frozen_scores", "frozen_scores"),
    "p_ik.prompt": ("instruction", "instruction"),
    "self_label.source": ("class_head", "class_head"),
    "self_label.soft": ("true", True),
    "graph.alpha": ("1", 1.0),
    "graph.tau": ("0.05", 0.05),
    "graph.normalize": ("False", False),
    "graph.center": ("True", True),
    "graph.include_self": ("0", False),
    "ceiling.split": ("both", "both"),
    "mesh.shape": ("1,1,1", (1, 1, 1)),
    "training.batch_size": ("16", 16),
    "training.epochs": ("1", 1.0),
    "training.learning_rate": ("1e-4", 1e-4),
    "training.micro_batch_size": ("8", 8),
    "precision.param_dtype": ("bfloat16", "bfloat16"),
    "precision.compute_dtype": ("float32", "float32"),
    "compat.openai_pooling": ("true", True),
    "logging.tensorboard": ("true", True),
    "seed.split": ("5", 5),
    "seed.conversion": ("5", 5),
    "seed.order": ("5", 5),
    "seed.init": ("5", 5),
    "seed.sampling": ("5", 5),
    "seed.test_conversion": ("5", 5),
}


@pytest.fixture
def parse(monkeypatch):
    """Parses arguments as the commands do, with flags of its own for every call."""

    def run(*given: str):
        values = flags.FlagValues()
        cli.define_config_flag(values)
        argv = ["main", *given]
        monkeypatch.setattr(sys, "argv", argv)
        arguments.parse(values, argv)
        return config_lib.normalize(values.config)

    return run


@pytest.mark.parametrize("key", COMMAND_LINE)
def test_every_key_of_the_contract_on_the_command_line(parse, key):
    text, expected = COMMAND_LINE[key]
    value = config_lib.get(parse(f"--config={paths.CONFIGS / 'gpt2.py'}", f"--config.{key}={text}"), key)
    assert value == expected and type(value) is type(expected)


def test_many_keys_at_once_make_a_valid_config(parse):
    overrides = [
        f"--config.{key}={text}" for key, (text, _) in COMMAND_LINE.items() if key != "self_label.soft"
    ]
    config = parse(f"--config={paths.CONFIGS / 'qwen.py'}:weak=qwen-1.8b", *overrides)
    checks.validate(config)
    assert config.weak.model == "gpt2-medium" and config.seeds == (0, 1)


@pytest.mark.parametrize(
    ("text", "methods"),
    [
        ("selective", ("selective",)),
        ("finetune, confidence", ("finetune", "confidence")),
        ("('finetune', 'selective')", ("finetune", "selective")),
        ("()", ()),
        ("", ()),
    ],
)
def test_forms_of_methods_on_the_command_line(parse, text, methods):
    config = parse(f"--config={paths.CONFIGS / 'gpt2.py'}", f"--config.methods={text}")
    assert config.methods == methods
    checks.validate(config)


@pytest.mark.parametrize("null", ["None", "null", "none"])
@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("data.instruction", "Judge.", "Judge."),
        ("data.train_file", "mine.jsonl", "mine.jsonl"),
        ("p_ik.num_train", "96", 96),
        ("seed.split", "5", 5),
        ("training.learning_rate", "1e-4", 1e-4),
        ("mesh.shape", "1,1,1", (1, 1, 1)),
        ("strong.revision", "main", "main"),
    ],
)
def test_null_on_the_command_line(parse, key, text, value, null):
    config = f"--config={paths.CONFIGS / 'gpt2.py'}:smoke"
    some, no = f"--config.{key}={text}", f"--config.{key}={null}"
    for given, expected in (
        ([no], None),
        ([f"--config.{key}", null], None),
        ([f"-config.{key}={null}"], None),
        ([some, no], None),
        ([no, some], value),
    ):
        assert config_lib.get(parse(config, *given), key) == expected, given


def test_none_stays_a_name_where_there_must_be_one(parse):
    config = parse(
        f"--config={paths.CONFIGS / 'gpt2.py'}:smoke",
        "--config.selection.refiner=none",
        "--config.execution.remat=none",
    )
    assert (config.selection.refiner, config.execution.remat) == ("none", "none")
    with pytest.raises(UserError, match=r"\(config\.training\.epochs takes a value of type float\)"):
        parse(f"--config={paths.CONFIGS / 'gpt2.py'}:smoke", "--config.training.epochs=None")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config.p_ik.gama=0.7"], "config key 'p_ik.gama' is not known; did you mean config.p_ik.gamma?"),
        (["--config.grph.tau", "1"], "config key 'grph.tau' is not known; did you mean config.graph.tau?"),
        (["--config.zzz=1"], r"config key 'zzz' is not known; did you mean config\.\S+\?"),
        (
            ["--config.graph=1"],
            "config.graph is a section, not a value; set one of: graph.alpha, graph.center",
        ),
        (
            ["--config.data.num_train=many"],
            r"data\.num_train.*many.*\(config\.data\.num_train takes .* type int\)",
        ),
        (["--config.data.num_test=1.5"], r"\(config\.data\.num_test takes a value of type int\)"),
        (
            ["--config.training.learning_rate=x"],
            r"\(config\.training\.learning_rate takes a value of type float\)",
        ),
        (["--config.graph.normalize=maybe"], r"\(config\.graph\.normalize takes a value of type bool\)"),
        (["--wrkdir=x"], "Unknown command line flag 'wrkdir'"),
        (["-config.p_ik.gama=0.7"], "p_ik.gama"),
        (["extra"], "argument 'extra' is not understood"),
        (
            ["--config=https://x.org/mine.py:smoke"],
            "--config=https://x.org/mine.py is not taken: nothing is read from web",
        ),
    ],
)
def test_a_wrong_command_line_is_one_clear_error(parse, arguments, message):
    with pytest.raises(UserError, match=message):
        parse(f"--config={paths.CONFIGS / 'gpt2.py'}", *arguments)


MINE = "from selw2s_jax import config\n\n\ndef get_config():\n    c = config.default_config()\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "config file .*mine.py is not there; the shipped ones, by name from anywhere: gpt2, "),
        ("def get_config(:", r"config .*mine.py could not be read: SyntaxError"),
        (
            "def get_config():\n    return 1 / 0",
            r"mine.py could not be read: ZeroDivisionError: .*\(line 2\)",
        ),
        ("x = 1", "mine.py could not be read: AttributeError"),
        (
            MINE + "    c.graph.taw = 1.0\n    return c",
            "mine.py: config key 'graph.taw' is not known; .*graph.tau?",
        ),
        (MINE + "    c.extra = dict(a=1)\n    return c", "mine.py: config key 'extra' is not known"),
        (
            MINE + "    c.graph.tau = 'x'\n    return c",
            r"mine.py could not be read: TypeError: .*\(line 6\)",
        ),
        (
            MINE + "    c.checkpoint.every_steps = None\n    return c",
            "mine.py: config.checkpoint.every_steps is None and has to have a value",
        ),
        (
            MINE + "    with c.unlocked():\n        del c.seeds\n    return c",
            "mine.py: config.seeds is missing; start from selw2s_jax.config",
        ),
        (
            MINE + "    return open('absent')",
            r"mine.py could not be read: FileNotFoundError: .*\(line 6\)",
        ),
        (MINE, r"mine.py could not be read: (get_config\(\) returned nothing|.*NoneType)"),
    ],
    ids=[
        "missing",
        "syntax",
        "raises",
        "no get_config",
        "key",
        "section",
        "type",
        "null",
        "incomplete",
        "file",
        "none",
    ],
)
@pytest.mark.parametrize("override", [[], ["--config.graph.tau=0.2"]], ids=["plain", "override"])
def test_a_config_file_that_cannot_be_read_is_one_clear_error(parse, tmp_path, text, message, override):
    path = tmp_path / "mine.py"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError, match=message):
        parse(f"--config={path}", *override)


def test_overrides_come_after_the_config(parse):
    with pytest.raises(UserError, match=r"--config\.task=boolq in argv before a value for --config"):
        parse("--config.task=boolq", f"--config={paths.CONFIGS / 'gpt2.py'}")


def test_no_config_is_an_error(parse):
    with pytest.raises(UserError, match=r"no config given; pass --config=qwen"):
        parse()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("qwen.py:weak=gpt3", "config argument weak='gpt3' is not one of: gpt2, qwen-1.8b"),
        ("qwen.py:smok", r"config argument 'smok' is not known; use one of: weak=gpt2\|qwen-1.8b, smoke"),
        ("gpt2.py:smoke=yes", "config argument 'smoke' is a flag and takes no value"),
        ("gpt2.py:strong", "config argument strong='' is not one of"),
    ],
)
@pytest.mark.parametrize("override", [[], ["--config.graph.tau=0.2"]], ids=["plain", "override"])
def test_wrong_config_arguments(parse, arguments, message, override):
    with pytest.raises(UserError, match=message):
        parse(f"--config={paths.CONFIGS / arguments}", *override)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config=configs/gpt2.py", "--config.trainig.epochs=1"], "did you mean config.training.epochs?"),
        (["--config=configs/gpt2.py:smok"], "config argument 'smok' is not known"),
    ],
)
def test_the_command_prints_one_line_and_exits_with_2(arguments, message):
    commands.assert_refused(commands.call(main_command.main, *arguments, cwd=paths.REPO), message)


@pytest.mark.parametrize(
    ("command", "argument", "message"),
    [
        *(
            (name, "--wrkdir=x", "flag 'wrkdir'")
            for name in ("report", "predict", "export", "plan", "benchmark")
        ),
        (
            "main",
            f"--config={paths.CONFIGS}/gpt2.py:smoke --config.training.epoch=1",
            "config.training.epochs",
        ),
        ("main", "--help", None),
        ("benchmark", "--help", None),
    ],
)
def test_what_needs_no_jax_ends_the_process_of_a_command_before_it_is_imported(
    tmp_path, command, argument, message
):
    code = (
        "import runpy, sys\n"
        f"try: runpy.run_module('selw2s_jax.{command}', run_name='__main__', alter_sys=True)\n"
        "finally: print(*sorted(sys.modules), sep='\\n', file=open('modules.txt', 'w'))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, *argument.split()], capture_output=True, text=True, cwd=tmp_path
    )
    if message is None:
        assert ended.returncode == 0 and ended.stderr == ""
        assert (
            ended.stdout.startswith("usage: selw2s ") and f"python -m selw2s_jax.{command}\n" in ended.stdout
        )
    else:
        commands.assert_refused(ended, message)
    modules = set((tmp_path / "modules.txt").read_text().split())
    assert "selw2s_jax.cli" in modules
    assert not {"jax", "flax", "transformers", "datasets", "pyarrow", "torch"} & modules


def test_a_call_leaves_nothing_to_the_next(tmp_path):
    """Two commands with a flag of one name, and one command twice, in a process that is neither."""
    for main in (report_command.main, export_command.main, report_command.main):
        commands.assert_refused(
            commands.call(main, "--workdir=absent", "--output=out", cwd=tmp_path), "absent"
        )
    commands.assert_refused(commands.call(report_command.main, cwd=tmp_path), "--workdir is missing")
    assert sys.argv[1:] == [] or ("--workdir=absent" not in sys.argv and "config" not in flags.FLAGS)


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (
            FileNotFoundError(2, "No such file or directory", "a.jsonl"),
            "put the file there or correct its path",
        ),
        (PermissionError(13, "Permission denied", "run"), "free space or correct permissions"),
    ],
    ids=["missing", "forbidden"],
)
def test_errors_of_the_file_system_name_their_own_remedy(capsys, error, remedy):
    def fail():
        raise error

    with pytest.raises(SystemExit) as ended:
        cli.guard(fail)
    (line,) = capsys.readouterr().err.splitlines()
    assert ended.value.code == cli.EXIT_USER_ERROR
    assert error.filename in line and remedy in line


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (KeyboardInterrupt(), 130, "error: interrupted; the same command goes on from what is saved\n"),
        (
            preemption.Preempted("stopped at 3"),
            75,
            "stopped: at 3; the same command goes on from there\n",
        ),
    ],
    ids=["interrupt", "told to stop"],
)
def test_what_ends_a_run_has_a_status_and_a_line_of_its_own(capsys, error, status, line):
    def fail():
        raise error

    with pytest.raises(SystemExit) as ended:
        cli.guard(fail)
    assert ended.value.code == status and capsys.readouterr().err == line


def test_a_mistake_of_this_package_shows_its_traceback():
    def fail():
        raise KeyError("ours")

    with pytest.raises(KeyError):
        cli.guard(fail)


def test_a_reader_that_has_gone_ends_a_command_without_a_word(capsys):
    def fail():
        raise output.ReaderGone

    with pytest.raises(SystemExit) as ended:
        cli.guard(fail)
    assert ended.value.code == 141 and capsys.readouterr() == ("", "")


def test_the_line_of_an_error_is_obeyed_by_no_terminal(capsys):
    def fail():
        raise UserError("no folder \x1b[2J\x1b]0;x\x07\nerror: \u202egnp")

    with pytest.raises(SystemExit):
        cli.guard(fail)
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "error: no folder \\x1b[2J\\x1b]0;x\\x07 error: \\u202egnp"


HERE = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(paths.REPO), "HF_HUB_OFFLINE": "1"}
SMOKE = f"--config={paths.CONFIGS / 'gpt2.py'}:smoke"


def test_a_home_that_is_not_known_is_missed_only_where_it_is_needed(parse, monkeypatch):
    monkeypatch.setattr(cli.os.path, "expanduser", lambda path: path)
    parse(f"--config={paths.CONFIGS / 'gpt2.py'}")
    with pytest.raises(UserError, match=r"--config=~/mine.py: no home folder is known"):
        parse("--config=~/mine.py")


DRY_RUN = (sys.executable, "-m", "selw2s_jax.main", SMOKE, "--dry_run", "--workdir=run")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shell", "status"),
    [
        pytest.param("2>&1 | head -1", 0, marks=pytest.mark.ci),
        ("| head -1", 0),
        ("| true", 0),
        (">&-", 0),
        (">&- 2>&-", 0),
        (">/dev/full", 2),
    ],
)
def test_readers_go_away_in_many_ways(tmp_path, shell, status):
    command = f"{' '.join(DRY_RUN)} {shell}; exit ${{PIPESTATUS[0]}}"
    ended = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=tmp_path, env=HERE)
    assert ended.returncode in ({0: (0, 141), 2: (2,)}[status]), ended
    assert "Traceback" not in ended.stderr and "Exception ignored" not in ended.stderr
    assert ended.stderr.startswith("error: [Errno 28]") if status else ended.stderr == "", ended


@pytest.mark.slow
def test_a_run_whose_reader_goes_away_goes_on(tmp_path):
    few = ("methods=finetune", "data.num_train=32", "training.batch_size=8", "training.epochs=1")
    command = [*DRY_RUN[:4], "--workdir=run", *(f"--config.{setting}" for setting in few)]
    run = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=tmp_path, env=HERE, text=True
    )
    run.stdout.readline()
    run.stdout.close()
    assert run.wait() == 0 and (tmp_path / "run" / "results.json").is_file()

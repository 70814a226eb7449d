"""All commands as one, what they say of themselves, and configs by name."""

import importlib
import pathlib
import subprocess
import sys

import pytest
from absl import flags
from support import commands, paths

import selw2s_jax
from selw2s_jax import __main__ as command
from selw2s_jax import arguments, cli
from selw2s_jax.errors import UserError
from selw2s_jax.runtime import shipped, usage

REQUIRED = {
    "run": {"config"},
    "report": set(),  # which has several ways
    "predict": {"workdir", "method", "input", "output"},
    "export": {"workdir", "method", "output"},
    "plan": {"config", "target"},
    "benchmark": {"config"},
    "replay": {"workdir"},
    "preregister": {"config", "workdir"},
}
every_command = pytest.mark.parametrize("name", command.COMMANDS)


def module(name: str):
    return importlib.import_module(f"selw2s_jax.{command.COMMANDS[name].module}")


def test_every_module_that_is_a_command_is_one_of_its_words():
    modules = {path.parent.name for path in (paths.REPO / "selw2s_jax").glob("*/__main__.py")} | {"main"}
    assert {one.module.removesuffix(".__main__") for one in command.COMMANDS.values()} == modules
    words = {usage.WORDS.get(one, one) for one in modules}
    assert set(command.COMMANDS) == words == set(REQUIRED)


@every_command
def test_help_is_whole(name, tmp_path):
    ended = commands.call(command.main, name, "--nothing", "-h", cwd=tmp_path)
    assert ended.returncode == 0 and not ended.stderr and ended.stdout.startswith(f"usage: selw2s {name} --")
    assert ended == commands.call(module(name).main, "--help", cwd=tmp_path)
    values = flags.FlagValues()
    module(name)._define_flags(values)
    required, options = ended.stdout.split("\noptions:\n" if not REQUIRED[name] else "options:\n")
    required, options = (part.split("  --") for part in (required.partition("required:\n")[2], options))
    names = [
        [entry.split("=")[0].split()[0] for entry in part if entry.strip()] for part in (required, options)
    ]
    assert set(names[0]) == REQUIRED[name]
    assert sorted(names[0] + names[1]) == sorted(
        [*values, "help,", *(["config.KEY"] if "config" in values else [])]
    )
    for flag in values:
        assert values[flag].help, flag
    assert max(map(len, ended.stdout.splitlines())) <= 100
    assert not {"verbosity", "logtostderr", "helpfull"} & set(names[1])


def test_the_words_of_absl_are_left_out_of_help():
    values = flags.FlagValues()
    flags.DEFINE_enum("mesh", "auto", ("auto", "config"), "The mesh.", flag_values=values)
    flags.DEFINE_multi_string("workdir", [], "A folder.", flag_values=values)
    flags.DEFINE_list("methods", ["a", "b"], "Some.", flag_values=values)
    document = (
        "Does it.\n\npython -m selw2s_jax.plan --workdir=DIR [--workdir=DIR ...]\n    [--config.key=v]\n"
    )
    found = usage.describe(document, values)
    assert "  --mesh=auto|config      The mesh. (default auto)\n" in found
    assert "  --workdir=DIR           A folder.\n" in found
    assert "  --methods=A,B           Some. (default a,b)\n" in found


def test_the_command_says_its_words_and_its_version(tmp_path):
    ended = commands.call(command.main, "--help", cwd=tmp_path)
    assert ended.returncode == 0 and all(f"\n  {name} " in ended.stdout for name in command.COMMANDS)
    for given in (["--version"], ["plan", "--version"], ["report", "--workdir=x", "--version"]):
        ended = commands.call(command.main, *given, cwd=tmp_path)
        assert ended == commands.Ended(0, f"selw2s_jax {selw2s_jax.__version__}\n", "")
    assert f"version: {selw2s_jax.__version__}\n" in (paths.REPO / "CITATION.cff").read_text()
    assert f"## {selw2s_jax.__version__}\n" in (paths.REPO / "CHANGELOG.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["raport"], "'raport' is no command; did you mean report?; there are run, report, predict"),
        (["xyzzy"], "'xyzzy' is no command; there are run"),
        (["--config=qwen"], "a command comes before flags, as selw2s run --config=qwen"),
        ([], "no command is given; there are run"),
        (["report"], "--workdir is missing"),
    ],
)
def test_a_wrong_word_is_one_line(arguments, said, tmp_path):
    commands.assert_refused(commands.call(command.main, *arguments, cwd=tmp_path), said)


def test_a_command_of_the_process_is_that_of_its_module(tmp_path):
    """Its arguments are found where the module's own are; and the list of commands needs none of them."""
    code = (
        "import sys; from selw2s_jax import __main__ as command\n"
        "sys.argv = ['selw2s', 'report', '--wrkdir=x']\n"
        "assert 'selw2s_jax.cli' not in sys.modules and 'absl' not in sys.modules\n"
        "command.main()"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    commands.assert_refused(ended, "flag 'wrkdir'")


@pytest.fixture
def parse():
    def run(*given: str):
        values = flags.FlagValues()
        cli.define_config_flag(values)
        argv = sys.argv
        sys.argv = ["main", *given]  # where ml_collections looks
        try:
            arguments.parse(values, sys.argv)
        finally:
            sys.argv = argv
        return values

    return run


@pytest.mark.parametrize(
    ("given", "note"),
    [("qwen:weak=qwen-1.8b,smoke", ""), ("configs/qwen.py:weak=qwen-1.8b,smoke", "the shipped one is taken")],
)
@pytest.mark.parametrize("form", [("--config={}",), ("-config={}",), ("--config", "{}")])
def test_shipped_configs_are_found_from_anywhere(parse, tmp_path, monkeypatch, capsys, given, note, form):
    monkeypatch.chdir(tmp_path)
    values = parse(*(part.format(given) for part in form), "--config.graph.tau=0.5")
    assert (values.config.weak.model, values.config.graph.tau) == ("random-tiny-qwen", 0.5)
    assert pathlib.Path(values["config"].config_filename.partition(":")[0]) == paths.CONFIGS / "qwen.py"
    assert note in capsys.readouterr().err


def test_a_file_of_the_users_comes_before_a_shipped_one(parse, tmp_path, monkeypatch, capsys):
    (tmp_path / "configs").mkdir()
    text = (
        (paths.CONFIGS / "gpt2.py")
        .read_text()
        .replace("return config", "config.task = 'boolq'; return config")
    )
    (tmp_path / "configs" / "qwen.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    assert parse("--config=configs/qwen.py:smoke").config.task == "boolq"
    assert parse("--config=qwen:smoke").config.task == "sciq"
    assert not capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            "qwem",
            r"qwem is not there; did you mean --config=qwen\? the shipped ones, .*: gpt2, ladder, .*, world",
        ),
        ("qwen.py", "did you mean --config=qwen?"),
        ("mine/qwen.py", "mine/qwen.py is not there"),
        ("zzz", "zzz is not there; the shipped ones"),
    ],
)
def test_a_config_that_is_nowhere(parse, tmp_path, monkeypatch, given, said):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=said):
        parse(f"--config={given}")


def test_the_configs_of_a_wheel_come_before_what_lies_beside_it(tmp_path, monkeypatch):
    """Beside an installed package is the rest of site-packages, which is no repository."""
    package = tmp_path / "selw2s_jax"
    for folder in (package, tmp_path / "configs"):
        folder.mkdir()
    (tmp_path / "configs" / "others.py").write_text("")
    monkeypatch.setattr(shipped, "_PACKAGE", package)
    assert shipped.configs() == {}
    (package / "configs").mkdir()
    (package / "configs" / "own.py").write_text("")
    assert shipped.configs() == {"own": package / "configs" / "own.py"}


def test_the_package_page_has_no_link_to_nowhere():
    spec = importlib.util.spec_from_file_location("setup", paths.REPO / "setup.py")
    setup = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(setup)
    text = "![a picture](a/b.png)\n\nSee [this](docs/x.md#y), [that](https://z) and [here](#there)."
    plain, linked = (setup.package_page(text, one, "1.2") for one in (None, "https://host/me/it/"))
    assert plain == "\n\nSee this, [that](https://z) and [here](#there)."
    assert linked.startswith("![a picture](https://host/me/it/raw/v1.2/a/b.png)")
    assert "[this](https://host/me/it/blob/v1.2/docs/x.md#y)" in linked

"""Methods of installed packages: imported for a name that nothing else has, and noted where that fails."""

import sys

import pytest

from selw2s_jax import config as config_lib
from selw2s_jax.errors import UserError
from selw2s_jax.experiments import checks, plugins
from selw2s_jax.method import losses, objectives, registry
from selw2s_jax.models import registry as models
from selw2s_jax.runtime import installed

CODE = """
from selw2s_jax.method import losses, registry
from w2s_lab import sizes

@losses.register("of_lab")
def make_loss(*, scale):
    return lambda logits, weak_probs, step_fraction, example_mask=None: scale * logits[:, 0] * sizes.SIZE

registry.register("of_lab", registry.Method(loss="of_lab"))
"""


@pytest.fixture
def install(tmp_path, monkeypatch, registrations):
    """Installs packages of one module each, as `pip` leaves them; they are gone after the test."""
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    installed.load.cache_clear()

    def write(package: str, module: str, code: str) -> None:
        folder, about = tmp_path / package, tmp_path / f"{package}-1.2.dist-info"
        folder.mkdir()
        about.mkdir()
        (folder / "__init__.py").write_text("")
        (folder / "sizes.py").write_text("SIZE = 3\n")
        (folder / f"{module}.py").write_text(code)
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.2\n")
        (about / "entry_points.txt").write_text(f"[{installed.GROUP}]\nany_name = {package}.{module}\n")

    yield write
    installed.load.cache_clear()
    for name in set(sys.modules) - before:
        if name.split(".")[0] in ("w2s_lab", "w2s_broken"):
            del sys.modules[name]


def config_with(*methods: str, **keys):
    config = config_lib.default_config()
    config.weak.model = config.strong.model = "gpt2"
    config.methods = methods
    for key, value in keys.items():
        config_lib.put(config, key.replace("__", "."), value)
    return config_lib.normalize(config)


def test_a_package_is_imported_for_a_name_that_nothing_else_has(install, capsys):
    install("w2s_lab", "methods", CODE)
    plugins.load(config_with("finetune", "selective"))
    assert "w2s_lab.methods" not in sys.modules and installed.loaded() == {}
    config = config_with("of_lab")
    plugins.load(config)
    checks.validate(config)
    plugins.check_methods(config)
    assert installed.loaded() == {"w2s_lab.methods": "w2s_lab 1.2"}
    assert "note: w2s_lab.methods of w2s_lab 1.2 is imported" in capsys.readouterr().out
    plugins.load(config)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "keys",
    [
        {"selection__selector": "of_lab"},
        {"selection__refiner": "of_lab"},
        {"self_label__source": "of_lab"},
        {"weak__combine": "of_lab"},
        {"task": "of_lab"},
        {"p_ik__task": "of_lab"},
        {"sweep__tasks": ("sciq", "of_lab")},
        {"sweep__settings": ("p_ik.gamma=0.5", "selection.selector=threshold,of_lab")},
    ],
)
def test_any_part_that_a_config_names_is_looked_for(install, keys):
    install("w2s_lab", "methods", CODE)
    plugins.load(config_with("finetune", **keys))
    assert "of_lab" in losses.LOSSES


def test_a_model_family_is_looked_for(install):
    install("w2s_lab", "methods", CODE)
    assert not models.has_family("of_lab")
    assert "of_lab" in registry.METHODS


def test_a_package_that_fails_is_noted_and_left_out(install, capsys):
    install("w2s_broken", "methods", "import a_library_that_is_not_there")
    install("w2s_lab", "methods", CODE)
    plugins.load(config_with("of_lab"))
    said = capsys.readouterr().out
    assert (
        "note: the plug-in w2s_broken.methods of w2s_broken 1.2 fails when it is imported: ModuleNotFound"
        in said
    )
    assert installed.loaded() == {"w2s_lab.methods": "w2s_lab 1.2"}
    objective = objectives.make_objective(config_with("of_lab"), registry.METHODS["of_lab"])
    assert objective.loss_options == (("scale", 1.0),)


def test_a_name_that_no_package_has_is_refused_with_the_nearest(install):
    install("w2s_lab", "methods", CODE)
    config = config_with("of_labs")
    plugins.load(config)
    with pytest.raises(UserError, match="did you mean 'of_lab'"):
        checks.validate(config)

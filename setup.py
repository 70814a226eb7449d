"""What pyproject.toml cannot say of the package: the configs in the wheel, a front page without links to nowhere."""

import pathlib
import re
import shutil
import tomllib

import setuptools
from setuptools.command import build_py

ROOT = pathlib.Path(__file__).resolve().parent
_LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!https?://|#)([^)\s]+)\)")


class BuildWithConfigs(build_py.build_py):
    """Copies configs/ to selw2s_jax/configs, where `--config=qwen` finds them; a checkout has them beside it."""

    def run(self):
        super().run()
        if not self.editable_mode:
            target = pathlib.Path(self.build_lib) / "selw2s_jax" / "configs"
            shutil.rmtree(target, ignore_errors=True)  # left by an earlier build
            target.mkdir(parents=True)
            for path in sorted((ROOT / "configs").glob("*.py")):
                shutil.copy(path, target)


def package_page(text: str, repository: str | None, version: str) -> str:
    """README.md as a package's page has it, which is read apart from the files that it links to.

    Args:
        repository: address that the links lead to, at the tag of this version; without one they become plain text, and
            pictures go.
    """

    def link(found: re.Match) -> str:
        picture, shown, path = found.groups()
        if repository is None:
            return "" if picture else shown
        return (
            f"{picture}[{shown}]({repository.rstrip('/')}/{'raw' if picture else 'blob'}/v{version}/{path})"
        )

    return re.sub(r"\n{3,}", "\n\n", _LINK.sub(link, text))


def _read() -> str:
    urls = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]
    version = re.search(r'__version__ = "(.+)"', (ROOT / "selw2s_jax" / "__init__.py").read_text())[1]
    return package_page((ROOT / "README.md").read_text(), urls.get("Repository"), version)


if __name__ == "__main__":
    setuptools.setup(
        cmdclass={"build_py": BuildWithConfigs},
        long_description=_read(),
        long_description_content_type="text/markdown",
    )

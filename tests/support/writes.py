"""Every kind of write that a run does, small."""

from support import store_edits

from selw2s_jax.runtime import artifacts

OLD, NEW = {"seed": 0}, {"seed": 1}


def fill(folder) -> None:
    (folder / "params").mkdir(parents=True)
    (folder / "params" / "data").write_bytes(bytes(range(256)) * 8)
    artifacts.write_text(folder / "summary.json", '{"n": 3}')
    artifacts.write_table(folder / "table.parquet", {"label": [0, 1]})


def write_all(workdir) -> None:
    """Every kind of write once, as a run does them."""
    with artifacts.locked_workdir(workdir):
        store_edits.make(artifacts.Store(workdir), "train", NEW, fill)
        artifacts.write_text(workdir / "results.json", "new" * 100)
        artifacts.write_table(workdir / "table.parquet", {"label": [1] * 100})
        artifacts.fill_once(workdir / "made", lambda folder: (folder / "file").write_text("made"))

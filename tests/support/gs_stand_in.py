"""Stands in for gs://: an object store on a local folder, which processes may share.

As on the real one, an object appears whole when its upload ends, there are no folders, renaming is copying and
deleting, and what was listed is remembered, as gcsfs does, until the cache is invalidated.
"""

import contextlib
import os
import pathlib
import tempfile
import urllib.parse
from collections.abc import Callable, Iterator

import fsspec
import fsspec.spec
from etils import epath
from etils.epath import backend, gpath
from fsspec.registry import _registry


class ObjectStore(fsspec.AbstractFileSystem):
    """The objects are files of `root`, each named by its quoted name."""

    protocol = ("gs", "gcs")
    cachable = False
    root: pathlib.Path
    before: Callable[[str, str], None]  # called with "upload", "delete" or "list", and the name

    def _file(self, name: str) -> pathlib.Path:
        return self.root / urllib.parse.quote(name, safe="")

    def ls(self, path, detail=True, **kwargs):
        path = self._strip_protocol(path)
        found = self.dircache.get(path)
        if found is None:
            type(self).before("list", path)
            objects = {urllib.parse.unquote(name): self.root / name for name in os.listdir(self.root)}
            found = {}
            for name, file in objects.items():
                if name == path or (name.startswith(f"{path}/") and "/" not in name[len(path) + 1 :]):
                    with contextlib.suppress(FileNotFoundError):  # deleted meanwhile
                        found[name] = {"name": name, "size": file.stat().st_size, "type": "file"}
                elif name.startswith(f"{path}/"):
                    folder = "/".join(name.split("/")[: path.count("/") + 2])
                    found[folder] = {"name": folder, "size": 0, "type": "directory"}
            found = self.dircache[path] = [found[name] for name in sorted(found)]
        if not found:
            raise FileNotFoundError(path)
        return found if detail else [entry["name"] for entry in found]

    def invalidate_cache(self, path=None):
        if path is None:
            self.dircache.clear()
        else:
            path = self._strip_protocol(path)
            while path:
                self.dircache.pop(path, None)
                path = self._parent(path)

    def rm_file(self, path):
        path = self._strip_protocol(path)
        type(self).before("delete", path)
        self._file(path).unlink()
        self.invalidate_cache(path)

    def rm(self, path, recursive=False, maxdepth=None):
        path = self._strip_protocol(path)
        if not recursive:
            self.rm_file(path)
            return
        names = [urllib.parse.unquote(name) for name in sorted(os.listdir(self.root))]
        names = [name for name in names if name == path or name.startswith(f"{path}/")]
        if not names:
            raise FileNotFoundError(path)
        for name in names:
            self.rm_file(name)

    def cp_file(self, path1, path2, **kwargs):
        self.pipe_file(path2, self.cat_file(path1))

    def _open(self, path, mode="rb", block_size=None, **kwargs):
        return _Object(self, path, mode, block_size or 1 << 16)


class _Object(fsspec.spec.AbstractBufferedFile):
    def _initiate_upload(self):
        self._parts = []

    def _upload_chunk(self, final=False):
        type(self.fs).before("upload", self.path)
        self._parts.append(self.buffer.getvalue())
        if final:
            with tempfile.NamedTemporaryFile(dir=self.fs.root.parent, delete=False) as file:
                file.write(b"".join(self._parts))
            os.replace(file.name, self.fs._file(self.path))

    def _fetch_range(self, start, end):
        with self.fs._file(self.path).open("rb") as file:
            file.seek(start)
            return file.read(end - start)


@contextlib.contextmanager
def installed(root: pathlib.Path) -> Iterator[type[ObjectStore]]:
    """Paths with gs:// are objects in `root` meanwhile."""
    root.mkdir(parents=True, exist_ok=True)

    class Store(ObjectStore):
        pass

    Store.root = root
    Store.before = staticmethod(lambda kind, name: None)
    before = {name: _registry.get(name) for name in ObjectStore.protocol}
    uses_tensorflow = gpath._is_tf_installed
    gpath._is_tf_installed = lambda: False
    for name in ObjectStore.protocol:
        fsspec.register_implementation(name, Store, clobber=True)
    backend.fsspec_backend._get_filesystem.cache_clear()
    try:
        yield Store
    finally:
        gpath._is_tf_installed = uses_tensorflow
        for name, implementation in before.items():
            del _registry[name]
            if implementation is not None:
                _registry[name] = implementation
        backend.fsspec_backend._get_filesystem.cache_clear()


@contextlib.contextmanager
def workdir(kind: str, folder: pathlib.Path) -> Iterator[epath.Path]:
    """A workdir that does not exist yet, "local" or "gs"."""
    if kind == "local":
        yield epath.Path(folder / "runs" / "one")
    else:
        with installed(folder / "objects"):
            yield epath.Path("gs://bucket/runs/one")

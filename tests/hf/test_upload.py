"""Sending a folder to the hub: what is asked of its library, and its errors in one line."""

import types

import huggingface_hub
import pytest

from selw2s_jax.errors import UserError
from selw2s_jax.hf import upload


class Api:
    """Stands for `huggingface_hub.HfApi`."""

    endpoint = "https://hub"

    def __init__(self):
        self.asked = []

    def create_repo(self, repo_id, **options):
        self.asked.append((repo_id, options))

    def upload_folder(self, **options):
        self.asked.append(options)


@pytest.fixture
def api(monkeypatch):
    made = Api()
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: made)
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "hf_x")
    monkeypatch.setattr(huggingface_hub.constants, "is_offline_mode", lambda: False)
    return made


@pytest.mark.parametrize("name", ["student", "a/b/c", "me/with space", "", "me/"])
def test_a_name_without_an_owner_is_refused(name):
    with pytest.raises(UserError, match="is no owner/name"):
        upload.check_name(name)


def test_a_folder_is_sent_whole_in_one_commit(api, tmp_path):
    upload.check_name("me/student")
    upload.create("me/student", private=True)
    assert upload.send(tmp_path, "me/student", message="new") == "https://hub/me/student"
    assert api.asked == [
        ("me/student", {"repo_type": "model", "private": True, "exist_ok": True}),
        {
            "repo_id": "me/student",
            "folder_path": str(tmp_path),
            "repo_type": "model",
            "commit_message": "new",
        },
    ]


@pytest.mark.parametrize(
    ("status", "token", "remedy"),
    [
        (401, "hf_x", "run `hf auth login`"),
        (None, None, "run `hf auth login`"),
        (403, "hf_x", "may not write to me: name another owner"),
        (None, "hf_x", "see whether the hub is to be reached"),
    ],
)
def test_errors_are_one_line_with_the_remedy(api, monkeypatch, tmp_path, status, token, remedy):
    def fail(**options):
        error = RuntimeError("no\n  such thing")
        error.response = types.SimpleNamespace(status_code=status)
        raise error

    api.upload_folder = fail
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: token)
    with pytest.raises(UserError) as caught:
        upload.send(tmp_path, "me/student", message="new")
    line = str(caught.value)
    assert "cannot push to me/student" in line and "(no such thing)" in line and remedy in line
    assert f"`hf upload me/student {tmp_path}`" in line and "\n" not in line

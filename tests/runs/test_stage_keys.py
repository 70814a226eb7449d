"""Artifacts that users have stay valid: every stage of the shipped configs has the key that it had."""

import json

import pytest
from fixtures import make_stage_keys


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stage_keys")
    with make_stage_keys.plugin_on_path(folder):
        yield folder


@pytest.mark.usefixtures("registrations")
def test_every_stage_keeps_its_key(workdir):
    recorded = json.loads(make_stage_keys.FILE.read_text())
    found = {
        name: make_stage_keys.stages_of(config, workdir)
        for name, config in make_stage_keys.make_configs().items()
    }
    assert found.keys() == recorded.keys()
    for name, stages in found.items():
        assert stages == recorded[name], name

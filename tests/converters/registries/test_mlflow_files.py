"""What only the store in files has: tags and aliases that are files, hidden folders, broken meta.yaml."""

import pytest

from converters.errors import ConversionError
from converters.registries.mlflow import open_store
from converters.registries.mlflow_uri import ModelUri
from edged.errors import NotFoundError


@pytest.mark.parametrize("content", ["", "one", "-1", "1" * 40, "\u0661"])
def test_an_alias_that_holds_no_number(file_store, content):
    (file_store / "models/scorer/aliases/champion").write_text(content, "utf-8")
    with pytest.raises(ConversionError, match='alias "champion" of "scorer" is'):
        open_store(str(file_store)).version(ModelUri("scorer", alias="champion"))


def test_an_alias_of_a_version_that_is_gone(file_store):
    (file_store / "models/scorer/aliases/champion").write_text("7")
    with pytest.raises(NotFoundError, match=r"it has scorer@champion, scorer/1, scorer/2"):
        open_store(str(file_store)).version(ModelUri("scorer", alias="champion"))


def test_folders_that_are_no_versions_are_passed_over(file_store):
    for name in ("version-x", "version-", "notes"):
        (file_store / "models/scorer" / name).mkdir()
    assert open_store(str(file_store)).version(ModelUri("scorer")).version == 2


def test_a_description_that_is_a_link_is_not_read(file_store, tmp_path):
    meta = file_store / "models/scorer/version-1/meta.yaml"
    meta.rename(tmp_path / "meta.yaml")
    meta.symlink_to(tmp_path / "meta.yaml")
    with pytest.raises(ConversionError, match="link"):
        open_store(str(file_store)).version(ModelUri("scorer", version=1))


def test_the_tag_of_a_version_is_a_file_of_its_name(file_store):
    store = open_store(str(file_store))
    store.set_tags(store.version(ModelUri("scorer", version=1)), {"edged.grade": "checked"})
    written = file_store / "models/scorer/version-1/tags/edged.grade"
    assert written.read_text() == "checked"
    assert not [path for path in written.parent.iterdir() if path != written]

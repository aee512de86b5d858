"""One question to the rules of a configuration."""

from __future__ import annotations

import pytest

from edged.access.policy import Peer
from edged.access.question import explain_access, group_words, peer_by_name
from edged.config.access import AccessConfig, RuleConfig
from edged.config.schema import Config
from edged.errors import InvalidRequestError

CONFIG = Config(access=AccessConfig(rules=(RuleConfig(users=("7",), allow=("infer",)),)))


def test_the_answer_is_the_policys():
    assert explain_access(CONFIG, Peer("native", 7), "infer", "m", None).by == "access.rules[0]"
    assert not explain_access(CONFIG, Peer("native", 8), "infer", "m", None).is_allowed
    assert explain_access(CONFIG, Peer("native", 8), "infer", "m", 8).is_allowed


def test_a_user_has_the_groups_that_the_system_knows():
    root = peer_by_name("root", "native")
    assert root.uid == 0
    assert 0 in root.gids
    assert peer_by_name("4123456", "http") == Peer("http", 4123456)
    assert group_words(frozenset((0, 4123456))) == "root, 4123456"
    with pytest.raises(InvalidRequestError, match="no user is named"):
        peer_by_name("no-such-user", "native")

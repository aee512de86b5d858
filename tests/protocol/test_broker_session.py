from edged.protocol.broker_session import Publication
from edged.protocol.mqtt import encode_properties


def test_the_size_of_a_packet_is_never_guessed_too_small():
    publication = Publication("t\u00e9" * 10, b"x" * 100, correlation=b"y" * 50)
    assert publication.size_bytes >= 30 + 100 + 50


def test_user_properties_count_as_much_as_they_take():
    bare = Publication("t", b"")
    named = bare._replace(properties=(("k\u00e9", "v" * 50),) * 20)
    longer = len(encode_properties(named)) - len(encode_properties(bare))
    assert named.size_bytes - bare.size_bytes >= longer

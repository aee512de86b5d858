import pytest

from edged.config.binding import BindingConfig
from edged.errors import FieldError
from edged.protocol.mqtt import BaseTopics
from edged.specs import OutputSpec
from edged.transports.bindings.binding_set import prepare_bindings, with_waiting
from tests.fakes.door import SUM

TOPICS = BaseTopics("edged/n")


def binding(name="vib", **words):
    values = {"from_": "in/{site}", "to": "out/{site}", "model": "sum"} | words
    return BindingConfig(name=name, **values)


def prepare(*configs):
    return prepare_bindings(configs, lambda model, _: SUM if model == "sum" else None, TOPICS)


@pytest.mark.parametrize(
    ("config", "path", "words"),
    [
        (binding(from_="a/#/b"), "bindings[1].from", "last level"),
        (binding(to="a/+"), "bindings[1].to", "wildcard"),
        (binding(to="a/{room}"), "bindings[1].to", "{room} is not a level of `from`"),
        (binding(to="in/x"), "bindings[1].to", "come back as requests"),
        (binding(from_="deep/#", to="first/in"), "bindings[1].to", 'binding "first"'),
        (binding(to="edged/n/status"), "bindings[1].to", "our own topics"),
        (binding(model="nope"), "bindings[1].model", "no release answers"),
        (binding(model="nope@2"), "bindings[1].model", '"nope@2"'),
        (binding(fields=("a",)), "bindings[1].fields", "expected 2"),
        (binding(input="z"), "bindings[1].input", '"z"'),
        (binding(codec="image"), "bindings[1].codec", "picture"),
        (binding(output=OutputSpec(tensor="z")), "bindings[1].output.tensor", '"z"'),
    ],
)
def test_what_cannot_work_is_refused_with_its_place(config, path, words):
    with pytest.raises(FieldError) as caught:
        prepare(binding("first", from_="first/in", to="first/out"), config)
    assert caught.value.path == path
    assert words in caught.value.message


def test_filters_are_subscribed_once_with_the_highest_qos():
    found = prepare(
        binding("one", from_="in/{a}", qos=0, to=None),
        binding("two", from_="in/{b}", qos=1, to=None),
        binding("three", from_="x/#", qos=0, to=None),
    )
    assert found.filters() == {"in/+": 1, "x/#": 0}


def test_routes():
    found = prepare(binding("one"), binding("all", from_="in/#", to=None))
    routes = found.routes("in/hall")
    assert [(route.binding.name, route.target) for route in routes] == [
        ("one", "out/hall"),
        ("all", None),
    ]
    assert found.routes("in/hall") is routes
    assert found.routes("out/hall") == ()
    assert found.is_input("in/a/b")
    assert not found.is_input("out/a")


def test_routes_are_remembered_for_so_many_topics_only():
    found = prepare(binding())
    for number in range(10_000):
        found.routes(f"in/{number}")
        found.routes("in/" + "x" * 500 + str(number))
    assert len(found._routes) <= 4096


def test_a_level_that_makes_the_target_too_long_is_said():
    (route,) = prepare(binding(from_="{a}", to="out/longer/{a}/{a}")).routes("x" * 1000)
    assert route.target is None
    assert "limit" in route.problem


@pytest.mark.parametrize(
    ("reference", "model", "release"),
    [("sum", "sum", None), ("sum@3", "sum", 3), ("sum@champion", "sum", "champion")],
)
def test_model_references(reference, model, release):
    (made,) = prepare(binding(model=reference)).bindings
    assert (made.model, made.release) == (model, release)


def test_a_release_is_compiled_once():
    (made,) = prepare(binding()).bindings
    assert made.compiled(SUM) is made.compiled(SUM)


def test_a_copy_runs_the_bindings_of_its_own_subscription():
    """MQTT 5.0, 3.3.4: where filters overlap a broker may send one copy for each."""
    found = prepare(binding("one"), binding("all", from_="in/#", to=None))
    one, every = (item.subscription for item in found.bindings)

    def names(*subscriptions):
        return [route.binding.name for route in found.routes("in/hall", subscriptions)]

    assert names(one) == ["one"]
    assert names(every) == ["all"]
    assert names(one, every) == names() == ["one", "all"]
    assert names(1) == ["one", "all"], "a subscription of an earlier configuration loses nothing"
    assert all(1 <= number <= 268_435_455 for number in (one, every))


def test_bindings_that_wait_for_their_model_keep_their_filters():
    ready, waiting = (
        binding(from_="a/{id}", to=None),
        binding("late", from_="b/{id}", to=None, model="no"),
    )
    both = with_waiting(prepare(ready), [ready, waiting])
    assert [one.name for one in both.bindings] == ["vib", "late"]
    assert set(both.filters()) == {"a/+", "b/+"}


def test_no_model_helps_a_binding_whose_own_words_are_wrong():
    ready = binding(from_="a/{id}", to="out/{id}")
    loop = binding("loop", from_="b/{id}", to="a/{id}", model="no")
    typo = binding("typo", from_="c/{id}", to="out/{ib}", model="no")
    assert [one.name for one in with_waiting(prepare(ready), [ready, loop, typo]).bindings] == [
        "vib"
    ]


def test_a_row_that_no_message_can_hold_is_refused_before_one_comes():
    raw = binding(codec="raw")
    prepare_bindings([raw], lambda *_: SUM, TOPICS, 8)
    with pytest.raises(FieldError, match="every message would be refused") as caught:
        prepare_bindings([raw], lambda *_: SUM, TOPICS, 7)
    assert caught.value.path == "bindings[0].codec"


def test_hundreds_that_leave_at_once_answer_what_comes_later_too():
    many = [
        BindingConfig(name=f"b{number}", from_=f"b{number}/in", to="out", model="sum")
        for number in range(300)
    ]
    before = prepare_bindings(many, lambda *_: SUM, BaseTopics("edged/test"))
    left = before.left_by(before.bindings)
    later = left.left_by_all().after(left)
    for found in (left, later, later.after(later)):
        assert all(found.routes(f"b{number}/in") for number in range(300))

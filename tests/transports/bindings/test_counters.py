from edged.transports.bindings.counters import BindingCounters


def test_all_counts_of_a_binding_are_on_its_page_by_their_names():
    counters = BindingCounters(received=3, answered=2)
    counters.dead_lettered += 1
    page = counters.as_dict()
    assert {name for name, count in page.items() if count} == {
        "received", "answered", "dead_lettered",
    }  # fmt: skip
    assert page["received"] == page["answered"] + page["dead_lettered"]

"""Encoders of words: raw words through scikit-learn, numbers through the bundle, the same answers."""

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

from converters.errors import ConversionError, ParityError, UnsupportedModelError
from converters.sources import sklearn as source
from converters.sources.base import SourceJob
from converters.sources.words import STRANGER, WordInput, part_words
from edged.errors import DecodeError
from edged.processing.words import ABSENT, Vocabulary
from edged.specs import UNKNOWN_WORD, WordColumn
from tests.converters.sources.gate import check

ROWS = 60
RANDOM = np.random.default_rng(3)
TABLE = pd.DataFrame(
    {
        "mass": RANDOM.normal(size=ROWS),
        "color": pd.Series(RANDOM.choice(["red", "green", "blue"], ROWS), dtype=object),
        "size": pd.Series(RANDOM.choice(["S", "M", "L", "grün"], ROWS), dtype=object),
    }
)
TRUTH = (TABLE["mass"] + 2 * (TABLE["color"] == "red") - (TABLE["size"] == "M") > 0.5).astype(int)
LOOSE = OneHotEncoder(handle_unknown="ignore")
ORDINAL = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)


def with_holes(column):
    table = TABLE.copy()
    table.loc[::7, column] = np.nan
    return table


def fit(color, size, table=TABLE, final=None):
    parts = [("mass", StandardScaler(), ["mass"]), ("c", color, ["color"]), ("s", size, ["size"])]
    final = LogisticRegression() if final is None else final
    return make_pipeline(ColumnTransformer(parts), final).fit(table, TRUTH)


def as_samples(table):
    """A table as ``load_worded`` gives it: numbers, and the samples' own words by column."""
    numbers, words = np.empty(table.shape), {}
    for at, name in enumerate(table.columns):
        cells = table[name].tolist()
        if any(isinstance(cell, str) for cell in cells):
            words[name] = tuple(sorted({cell for cell in cells if isinstance(cell, str)}))
            cells = [words[name].index(c) if isinstance(c, str) else np.nan for c in cells]
        numbers[:, at] = cells
    return numbers, words


def export(tmp_path, model, table=TABLE):
    joblib.dump(model, tmp_path / "m.joblib")
    numbers, words = as_samples(table)
    path, columns = str(tmp_path / "m.joblib"), tuple(table.columns)
    job = SourceJob(framework="sklearn", source=path, columns=columns, words=words)
    return source.export(job, {"*": numbers})


def ask_raw(model, table):
    return model.predict_proba(table)


@pytest.mark.parametrize(
    "model",
    [
        fit(LOOSE, ORDINAL),
        fit(OneHotEncoder(), OrdinalEncoder()),
        fit(OneHotEncoder(drop="first"), OneHotEncoder(sparse_output=False), final=None),
        fit(LOOSE, ORDINAL, final=RandomForestClassifier(8, random_state=0)),
        fit(OneHotEncoder(handle_unknown="infrequent_if_exist"), ORDINAL),
    ],
    ids=["loose", "strict", "dropped", "forest", "infrequent-without-any"],
)
def test_words_of_the_samples_come_out_as_scikit_learn_has_them(tmp_path, model):
    exported = export(tmp_path, model)
    got = check(exported)
    np.testing.assert_allclose(got["probabilities"], ask_raw(model, TABLE), atol=1e-5)
    assert exported.inputs["features"].dtype == np.float32
    assert exported.words[1].words == ("blue", "green", "red")
    assert exported.words[2].words == ("L", "M", "S", "grün")


def test_unknown_and_missing_words_of_the_samples_too(tmp_path):
    model = fit(make_pipeline(SimpleImputer(strategy="most_frequent"), LOOSE), ORDINAL)
    odd = TABLE.copy()
    odd.loc[::5, "color"] = "mauve"
    odd.loc[1::5, "color"] = np.nan
    odd.loc[::3, "size"] = "XXL"
    odd.loc[2::3, "size"] = np.nan
    exported = export(tmp_path, model, odd)
    got = check(exported)
    np.testing.assert_allclose(got["probabilities"], ask_raw(model, odd), atol=1e-5)
    column = exported.inputs["features"][:, 1]
    common = TABLE["color"].mode()[0]
    assert column[0] == UNKNOWN_WORD
    assert column[1] == exported.words[1].words.index(common)


def odd_rows():
    return TABLE.assign(color=np.where(TABLE.index % 5 > 0, TABLE["color"], "mauve"))


def test_pipelines_in_pipelines_and_pandas_own_dtype_of_text(tmp_path):
    fill = SimpleImputer(strategy="constant", fill_value="none")
    branch = ColumnTransformer(
        [("m", StandardScaler(), ["mass"]), ("w", make_pipeline(fill, LOOSE), ["color", "size"])]
    )
    inner = make_pipeline(branch)
    model = make_pipeline(inner, LogisticRegression()).fit(with_holes("color"), TRUTH)
    exported = export(tmp_path, model, odd_rows())
    check(exported)
    assert exported.words[1] == WordColumn(
        ("blue", "green", "none", "red"), unknown=True, missing=2
    )
    assert exported.words[2].missing == UNKNOWN_WORD
    own = TABLE.astype({"color": str, "size": str})
    check(export(tmp_path, fit(LOOSE, ORDINAL, own), odd_rows()))


@pytest.mark.frameworks
@pytest.mark.parametrize("family", ["xgboost", "lightgbm"])
def test_a_booster_behind_encoders_of_words(tmp_path, family):
    package = pytest.importorskip(family)
    name = {"xgboost": "XGBClassifier", "lightgbm": "LGBMClassifier"}[family]
    booster = getattr(package, name)(n_estimators=5)
    check(export(tmp_path, fit(LOOSE, ORDINAL, final=booster), odd_rows()))


@pytest.mark.parametrize(
    ("color", "missing"),
    [
        (LOOSE, UNKNOWN_WORD),
        (OneHotEncoder(), None),
        (make_pipeline(SimpleImputer(strategy="constant", fill_value="red"), OneHotEncoder()), 2),
        (make_pipeline(SimpleImputer(strategy="constant", fill_value="?"), LOOSE), UNKNOWN_WORD),
        (ORDINAL, UNKNOWN_WORD),
    ],
    ids=["loose", "strict", "filled", "filled-with-unknown", "ordinal"],
)
def test_what_missing_is_to_a_model_that_saw_none(tmp_path, color, missing):
    exported = export(tmp_path, fit(color, ORDINAL))
    assert exported.words[1].missing == missing


@pytest.mark.parametrize("nothing", [np.nan, None])
def test_missing_words_that_were_fitted_on_have_a_number_of_their_own(tmp_path, nothing):
    table = TABLE.copy()
    table["color"] = pd.Series(
        [nothing if at % 7 == 0 else word for at, word in enumerate(TABLE["color"])], dtype=object
    )
    model = fit(LOOSE, ORDINAL, table)
    exported = export(tmp_path, model, table)
    assert exported.words[1] == WordColumn(("blue", "green", "red"), unknown=True, missing=3)
    got = check(exported)
    np.testing.assert_allclose(got["probabilities"], ask_raw(model, table), atol=1e-5)


def test_an_ordinal_encoder_fitted_on_missing_words(tmp_path):
    same = OrdinalEncoder(
        handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-1
    )
    holes = with_holes("color")
    model = fit(same, ORDINAL, holes)
    exported = export(tmp_path, model, holes)
    assert exported.words[1].missing == UNKNOWN_WORD
    np.testing.assert_allclose(check(exported)["probabilities"], ask_raw(model, holes), atol=1e-5)
    apart = OrdinalEncoder(encoded_missing_value=-5)
    with pytest.raises(UnsupportedModelError, match="column 1: was fitted on missing values"):
        export(tmp_path, fit(apart, ORDINAL, holes), holes)


def test_the_very_step_of_the_device_gives_the_frameworks_answers(tmp_path):
    """Raw words through Vocabulary and ONNX Runtime; raw words through scikit-learn."""
    model = fit(LOOSE, ORDINAL)
    exported = export(tmp_path, model)
    raw = pd.DataFrame(
        {
            "mass": np.array([0.5, -1.0, 2.0], dtype=np.float32),
            "color": pd.Series(["red", "Red", np.nan], dtype=object),
            "size": pd.Series(["grün", np.nan, ""], dtype=object),
        }
    )
    numbers = np.empty((3, 3), dtype=np.float32)
    numbers[:, 0] = raw["mass"]
    for at, name in ((1, "color"), (2, "size")):
        vocabulary = Vocabulary(exported.words[at])
        cells = [cell if isinstance(cell, str) else ABSENT for cell in raw[name]]
        numbers[:, at] = [vocabulary.code(cell, "it") for cell in cells]
    exported.inputs = {"features": numbers}
    exported.outputs = {"probabilities": model.predict_proba(raw), "label": model.predict(raw)}
    check(exported)


def test_edges_hold_what_the_bundle_promises_of_words(tmp_path):
    exported = export(tmp_path, fit(LOOSE, OneHotEncoder()))
    assert set(exported.made_edges) == {"missing", "unknown-words"}
    row = exported.made_edges["unknown-words"]
    assert row["features"][0, 1:].tolist() == [UNKNOWN_WORD, exported.inputs["features"][0, 2]]
    answered = exported.call(row)["probabilities"]
    raw = TABLE[:1].assign(color="never seen", mass=TABLE["mass"][:1].astype(np.float32))
    np.testing.assert_allclose(answered, ask_raw(exported_model(tmp_path), raw), atol=1e-6)
    with pytest.raises(ValueError, match="the number of no word"):
        exported.call({"features": np.array([[0, 7, 0]], dtype=np.float32)})


def exported_model(tmp_path):
    return joblib.load(tmp_path / "m.joblib")


def test_a_model_without_names_and_one_that_is_an_encoder(tmp_path):
    bare = make_pipeline(
        ColumnTransformer([("c", LOOSE, slice(1, 3))], remainder="passthrough"),
        LogisticRegression(),
    ).fit(TABLE.to_numpy(dtype=object), TRUTH)
    exported = export(tmp_path, bare)
    assert exported.columns == ()
    check(exported)
    chosen = ColumnTransformer(
        [("c", LOOSE, make_column_selector(dtype_include=object))], remainder="passthrough"
    )
    check(export(tmp_path, make_pipeline(chosen, LogisticRegression()).fit(TABLE, TRUTH)))
    words = TABLE[["color", "size"]]
    check(export(tmp_path, make_pipeline(LOOSE, LogisticRegression()).fit(words, TRUTH), words))


def test_words_and_numbers_in_one_encoder(tmp_path):
    table = TABLE.assign(mass=np.arange(ROWS) % 4)
    mixed = ColumnTransformer([("all", LOOSE, ["mass", "color"])])
    model = make_pipeline(mixed, LogisticRegression()).fit(table, TRUTH)
    exported = export(tmp_path, model, table[["mass", "color", "size"]].assign(size=0.0))
    assert set(exported.words) == {1}
    check(exported)


def test_an_unknown_word_in_the_samples_of_a_strict_encoder_is_the_models_own_error(tmp_path):
    model = fit(OneHotEncoder(), ORDINAL)
    with pytest.raises(ConversionError, match=r"the model itself fails .*unknown categories"):
        export(tmp_path, model, TABLE.assign(color=["mauve"] * ROWS))


@pytest.mark.parametrize(
    ("color", "words"),
    [
        (OneHotEncoder(min_frequency=25), "min_frequency and max_categories"),
        (OrdinalEncoder(max_categories=2), "min_frequency and max_categories"),
        (
            make_pipeline(SimpleImputer(strategy="most_frequent", missing_values="red"), LOOSE),
            "takes 'red' for missing",
        ),
        (
            make_pipeline(SimpleImputer(strategy="most_frequent", add_indicator=True), LOOSE),
            "add_indicator off",
        ),
    ],
    ids=["rare-onehot", "rare-ordinal", "a-word-for-missing", "indicator"],
)
def test_what_cannot_be_parted_is_refused_by_name(tmp_path, color, words):
    holes = with_holes("color") if "add_indicator" in str(color) else TABLE
    with pytest.raises(UnsupportedModelError, match=words):
        export(tmp_path, fit(color, ORDINAL, holes), holes)


@pytest.mark.parametrize("final", ["words", "numbers"])
def test_a_column_of_words_that_the_model_drops_may_hold_anything(tmp_path, final):
    branch = ("c", LOOSE, ["color"]) if final == "words" else ("m", StandardScaler(), ["mass"])
    model = make_pipeline(ColumnTransformer([branch]), LogisticRegression()).fit(TABLE, TRUTH)
    table = with_holes("size")
    exported = export(tmp_path, model, table)
    check(exported)
    assert exported.words[2] == WordColumn(("L",), unknown=True, missing=UNKNOWN_WORD)
    assert Vocabulary(exported.words[2]).code("anything", "it") == UNKNOWN_WORD
    assert (1 in exported.words) == (final == "words" or "color" in as_samples(table)[1])


def test_a_column_of_two_encoders_is_refused(tmp_path):
    twice = ColumnTransformer([("a", LOOSE, ["color"]), ("b", ORDINAL, ["color"])])
    model = make_pipeline(twice, LogisticRegression()).fit(TABLE, TRUTH)
    with pytest.raises(UnsupportedModelError, match=r'"Pipeline\.columntransformer\.b" .* two enc'):
        export(tmp_path, model)


def test_words_behind_another_step_are_refused_with_where_they_may_stand(tmp_path):
    words = TABLE[["color", "size"]]
    model = make_pipeline(FeatureUnion([("a", LOOSE)]), LogisticRegression()).fit(words, TRUTH)
    with pytest.raises(
        UnsupportedModelError, match=r'"featureunion\.a" .* takes text .* first to see'
    ):
        export(tmp_path, model, words)


def test_without_samples_no_words_are_made_up(tmp_path):
    joblib.dump(fit(LOOSE, ORDINAL), tmp_path / "m.joblib")
    job = SourceJob(framework="sklearn", source=str(tmp_path / "m.joblib"), generate=20)
    with pytest.raises(ConversionError, match=r"takes words there.*bring --samples"):
        source.export(job, {})


def test_texts_are_refused_still(tmp_path):
    text = ColumnTransformer([("t", TfidfVectorizer(), "color")])
    with pytest.raises(UnsupportedModelError, match="TfidfVectorizer: text inputs"):
        export(tmp_path, make_pipeline(text, LogisticRegression()).fit(TABLE, TRUTH))


def test_samples_and_model_must_agree_on_which_columns_hold_words(tmp_path):
    model = fit(LOOSE, ORDINAL)
    with pytest.raises(ConversionError, match='column "color": the model takes words there'):
        export(tmp_path, model, TABLE.assign(color=1.0))
    with pytest.raises(ConversionError, match='column "mass": "a" is not a number'):
        export(tmp_path, model, TABLE.assign(mass=["a"] * ROWS))


def test_the_model_itself_stays_as_it_was():
    model = fit(LOOSE, ORDINAL)
    before = ask_raw(model, TABLE)
    assert part_words(model, texts=True).model is not model
    np.testing.assert_array_equal(ask_raw(model, TABLE), before)


def test_a_word_with_another_words_number_is_caught_by_parity(tmp_path, monkeypatch):
    code = Vocabulary.code
    monkeypatch.setattr(Vocabulary, "code", lambda *them: (code(*them) + 1) % 3)
    with pytest.raises(ParityError, match="rows are beyond"):
        check(export(tmp_path, fit(LOOSE, ORDINAL)))


def test_the_stranger_is_no_word_of_the_model():
    words = (STRANGER, f"{STRANGER}?")
    assert WordInput(WordColumn(words, unknown=True), None).spell(UNKNOWN_WORD) not in words


@pytest.mark.parametrize("word", ["x" * 1025, "\ud800"])
def test_words_that_a_bundle_cannot_carry_are_refused(word):
    table = TABLE.assign(color=pd.Series([word, "red"] * (ROWS // 2), dtype=object))
    model = fit(LOOSE, ORDINAL, table)
    with pytest.raises(UnsupportedModelError, match="characters of Unicode text each"):
        part_words(model, texts=True)


def test_a_strict_column_refuses_on_the_device_what_scikit_learn_refuses(tmp_path):
    exported = export(tmp_path, fit(OneHotEncoder(), ORDINAL))
    with pytest.raises(DecodeError, match="does not know the word 'mauve'"):
        Vocabulary(exported.words[1]).code("mauve", "it")

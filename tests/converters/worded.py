"""A scikit-learn model of a number and a word, beside its samples."""

import numpy as np
import pytest

from converters.recipe import make_recipe


def save_worded(folder):
    """A model of a number and a word, with its samples; gives the model and its table."""
    joblib, pandas = pytest.importorskip("joblib"), pytest.importorskip("pandas")
    from sklearn.compose import ColumnTransformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    random = np.random.default_rng(0)
    colors = pandas.Series(random.choice(["red", "green", "blau\u00e4"], 60), dtype=object)
    table = pandas.DataFrame({"mass": random.normal(size=60).astype("f4"), "color": colors})
    truth = (table["mass"] + 2 * (colors == "red") > 0.5).astype(int)
    onehot = OneHotEncoder(handle_unknown="ignore")
    parts = ColumnTransformer([("m", StandardScaler(), ["mass"]), ("c", onehot, ["color"])])
    model = make_pipeline(parts, LogisticRegression()).fit(table, truth)
    joblib.dump(model, folder / "w.joblib")
    table.assign(truth=truth).to_csv(folder / "w.csv", index=False)
    return model, table


def recipe_of_words(folder, **fields):
    words = {"source": str(folder / "w.joblib"), "samples": str(folder / "w.csv")}
    columns = {"*": {"kind": "features", "names": ["color", "mass"]}}
    values = {"name": "w", "release": 1, "input_processing": columns, **words, **fields}
    return make_recipe(values)

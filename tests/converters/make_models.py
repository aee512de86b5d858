"""One model file of each framework: ``python make_models.py FOLDER``, a process of its own.

Beside each lie the samples that it is proven on.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import numpy as np

ROWS = np.random.default_rng(0).normal(size=(80, 4)).astype("f4")
LABELS = (ROWS[:, 0] + ROWS[:, 1] > 0).astype(int)


def torch(folder):
    import torch

    torch.manual_seed(0)
    layers = torch.nn.Linear(4, 3), torch.nn.Dropout(), torch.nn.ReLU(), torch.nn.Linear(3, 2)
    net = torch.nn.Sequential(*layers).eval()
    axes = ({0: torch.export.Dim("batch")},)
    program = torch.export.export(net, (torch.tensor(ROWS[:2]),), dynamic_shapes=axes)
    torch.export.save(program, folder / "torch.pt2")


def tensorflow(folder):
    import keras

    keras.utils.set_random_seed(0)
    normal = keras.layers.Normalization()
    normal.adapt(ROWS * 3 + 1)
    layers = keras.layers.Input((4,)), normal, keras.layers.Dense(2, activation="gelu")
    keras.Sequential(list(layers)).save(folder / "keras.keras")


def sklearn(folder):
    import joblib
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), HistGradientBoostingClassifier(max_iter=5))
    joblib.dump(model.fit(ROWS, LABELS), folder / "sklearn.joblib")


def xgboost(folder):
    import xgboost

    model = xgboost.XGBClassifier(n_estimators=5, max_depth=2).fit(ROWS, LABELS)
    model.save_model(folder / "xgboost.json")


def lightgbm(folder):
    import lightgbm

    model = lightgbm.LGBMClassifier(n_estimators=5, num_threads=1, verbose=-1).fit(ROWS, LABELS)
    model.booster_.save_model(folder / "lightgbm.txt")


def catboost(folder):
    import catboost

    quiet = {"verbose": 0, "allow_writing_files": False, "thread_count": 1}
    model = catboost.CatBoostClassifier(iterations=5, **quiet).fit(ROWS, LABELS)
    model.save_model(str(folder / "catboost.cbm"))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    target = Path(sys.argv[1])
    np.savez(target / "rows.npz", x=ROWS)
    for make in sys.argv[2:]:
        globals()[make](target)

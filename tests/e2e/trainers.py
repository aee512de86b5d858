"""Trains small real models in a process of its own and writes what the converter takes.

    python trainers.py sklearn|onnx|torch|keras DIRECTORY

Writes the model, ``samples.npz``, and ``expected.npy``: the framework's own probabilities for the
samples. A process of its own keeps the frameworks out of the test runner.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np


def digits() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits

    data = load_digits()
    return (data.data / 16).astype(np.float32), data.target


def train_sklearn(directory: Path) -> np.ndarray:
    import joblib
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x, y = digits()
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300)).fit(x, y)
    joblib.dump(model, directory / "model.joblib")
    np.savez(directory / "samples.npz", x=x[:64])
    return model.predict_proba(x[:64])


def train_onnx(directory: Path) -> np.ndarray:
    import onnx
    from skl2onnx import to_onnx
    from sklearn.neural_network import MLPClassifier

    x, y = digits()
    model = MLPClassifier((32,), max_iter=60, random_state=0).fit(x, y)
    proto = to_onnx(model, x[:1], options={"zipmap": False}, target_opset=18)
    onnx.save(proto, directory / "model.onnx")
    np.savez(directory / "samples.npz", X=x[:64])
    return model.predict_proba(x[:64])


def train_torch(directory: Path) -> np.ndarray:
    import torch

    x, y = digits()
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Unflatten(1, (1, 8, 8)),
        torch.nn.Conv2d(1, 8, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.Flatten(),
        torch.nn.Linear(512, 10),
        torch.nn.Softmax(1),
    )
    inputs, labels = torch.from_numpy(x), torch.from_numpy(y)
    optimiser = torch.optim.Adam(net.parameters(), 0.01)
    for _ in range(30):
        optimiser.zero_grad()
        torch.nn.functional.nll_loss(net(inputs).clamp_min(1e-9).log(), labels).backward()
        optimiser.step()
    net.eval()
    batch = torch.export.Dim("batch")
    program = torch.export.export(net, (inputs[:2],), dynamic_shapes=({0: batch},))
    torch.export.save(program, directory / "model.pt2")
    np.savez(directory / "samples.npz", x=x[:64])
    with torch.no_grad():
        return net(inputs[:64]).numpy()


def train_keras(directory: Path) -> np.ndarray:
    import keras

    x, y = digits()
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((64,)),
            keras.layers.Dense(32, activation="gelu"),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(x, y, epochs=3, verbose=0)
    model.save(directory / "model.keras")
    np.savez(directory / "samples.npz", x=x[:64])
    return np.asarray(model(x[:64], training=False))


if __name__ == "__main__":
    kind, target = sys.argv[1], Path(sys.argv[2])
    np.save(target / "expected.npy", globals()[f"train_{kind}"](target))

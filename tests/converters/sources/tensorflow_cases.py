"""Models that TensorFlow, Keras 3 and Keras 2 make and save, and what is tried with each.

One child converts everything: importing TensorFlow takes longer than most conversions.
"""

import importlib.util
import subprocess
import sys

import pytest

from tests.converters.many import case

MARKS = [
    pytest.mark.frameworks,
    pytest.mark.timeout(600),  # one fixture converts all; a busy machine takes its time
    pytest.mark.skipif(
        importlib.util.find_spec("tensorflow") is None
        or importlib.util.find_spec("tf2onnx") is None,
        reason="tensorflow or tf2onnx is not installed on this Python",
    ),
]
SAVE = """
import keras, numpy as np, tensorflow as tf, tf_keras
from keras import layers as L

keras.utils.set_random_seed(1)
tf.get_logger().setLevel("ERROR")
random = np.random.default_rng(0)
image = random.normal(size=(30, 8, 8, 1)).astype("f4")
flat = image.reshape(30, 64)
np.savez("image.npz", image=image)
np.savez("row.npz", row=flat * 3 + 1)
np.savez("same.npz", row=np.ones((5, 64)))
np.savez("two.npz", left=flat[:, :4], right=flat[:, 4:7])
np.savez("tokens.npz", tokens=random.normal(size=(30, 6, 4)))
np.savez("ids.npz", ids=random.integers(0, 9, size=(30, 6)))
np.savez("x.npz", x=flat[:, :8])
np.savez("text.npz", word=flat[:, :1])


def functional(name, shape, outputs, dtype="float32"):
    inputs = keras.Input(shape, name=name, dtype=dtype)
    return keras.Model(inputs, outputs(inputs))


def save(name, *arguments, **options):
    functional(*arguments, **options).save(f"{name}.keras")


keras.Sequential([
    keras.Input((8, 8, 1), name="image"), L.RandomFlip(), L.RandomRotation(0.1),
    L.Conv2D(4, 3, activation="gelu"), L.BatchNormalization(), L.Flatten(), L.Dropout(0.3),
    L.Dense(10, activation="softmax", name="probabilities"),
]).save("image.keras")
normal = L.Normalization()
normal.adapt(flat * 3 + 1)


def scored(row):
    hidden = L.Dense(8, activation="gelu")(normal(row))
    return {"score": L.Dense(3)(hidden), "embedding": hidden}


save("row", "row", (64,), scored)
left, right = keras.Input((4,), name="left"), keras.Input((3,), name="right")
both = L.Dense(2, name="y")(L.concatenate([left, right]))
keras.Model({"right": right, "left": left}, both).save("two.keras")
save("rnn", "tokens", (None, 4), lambda x: L.GRU(3)(L.LSTM(5, return_sequences=True)(x)))
save("attention", "tokens", (None, 4), lambda x: L.MultiHeadAttention(2, 3)(x, x))
save("masked", "ids", (6,),
     lambda x: L.LSTM(4)(L.Embedding(9, 5, mask_zero=True)(x)), dtype="int32")
save("resize", "image", (8, 8, 1),
     lambda x: L.Conv2DTranspose(2, 3, strides=2)(L.Resizing(6, 6)(x)))
save("lookup", "ids", (6,),
     lambda x: L.Embedding(20, 3)(L.IntegerLookup(vocabulary=[3, 1, 2])(x)), dtype="int64")
save("code", "row", (64,), lambda x: L.Lambda(lambda y: y * 2)(x))
functional("row", (64,), lambda x: L.Lambda(lambda y: y * 2)(x)).save("code.h5")
words = L.StringLookup(vocabulary=["a", "b"])
save("text", "word", (1,), lambda x: L.Embedding(4, 2)(words(x)), dtype="string")
save("numbers", "ids", (6,),
     lambda x: L.StringLookup(vocabulary=["a", "b"], invert=True)(x), dtype="int64")
vectorised = L.TextVectorization(max_tokens=9, output_sequence_length=4)
vectorised.adapt(["a b c"])
save("vectors", "word", (1,), lambda x: L.Embedding(9, 2)(vectorised(x)), dtype="string")
constant = L.Dense(3, kernel_initializer="zeros", activation="softmax")
save("untrained", "row", (64,), constant)
fixed = keras.Input(batch_shape=(4, 64), name="row")
keras.Model(fixed, L.Dense(2)(fixed)).save("fixed.keras")
keras.mixed_precision.set_global_policy("mixed_float16")
save("mixed", "row", (64,), lambda x: L.Dense(3, dtype="float32")(L.Dense(8)(x)))
keras.mixed_precision.set_global_policy("float32")

small = functional("x", (8,), lambda x: L.Dense(3, name="y")(L.Dense(6, activation="gelu")(x)))
small.save("small.h5")
small.save_weights("small.weights.h5")
small.export("keras3", verbose=False)
functional("x", (8,), lambda x: {"b": L.Dense(2)(x), "a": L.Dense(3)(x)}).export("dict", verbose=False)
open("small.tflite", "wb").write(tf.lite.TFLiteConverter.from_keras_model(small).convert())

old = tf_keras.Sequential([
    tf_keras.layers.Input((8,), name="x"), tf_keras.layers.Dense(4, activation="relu"),
    tf_keras.layers.Dense(3, activation="softmax", name="probabilities"),
])
old.compile(optimizer=tf_keras.optimizers.legacy.Adam(), loss="mse")
old.fit(flat[:, :8], random.random((30, 3)), verbose=0)
old.save("keras2")
old.save("keras2.h5")
open("old.tflite", "wb").write(tf.lite.TFLiteConverter.from_keras_model(old).convert())
small8 = tf.lite.TFLiteConverter.from_keras_model(old)
small8.optimizations = [tf.lite.Optimize.DEFAULT]
small8.representative_dataset = lambda: ([row[None, :8]] for row in flat)
open("int8.tflite", "wb").write(small8.convert())


class Module(tf.Module):
    def __init__(self):
        self.weight = tf.Variable(random.normal(size=(8, 3)).astype("f4"))

    @tf.function(input_signature=[tf.TensorSpec([None, 8], tf.float32, name="x")])
    def __call__(self, x):
        return {"y": x @ self.weight, "sum": tf.reduce_sum(x, 1)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="word")])
    def words(self, word):
        return tf.strings.length(word)


class Tables(tf.Module):
    def __init__(self):
        self.words = L.StringLookup(vocabulary=["3", "1", "2"])
        keys = tf.lookup.KeyValueTensorInitializer(["3", "1"], tf.constant([0, 1], tf.int64))
        self.table = tf.lookup.StaticHashTable(keys, -1)

    @tf.function(input_signature=[tf.TensorSpec([None, 6], tf.int32, name="ids")])
    def layer(self, ids):
        return {"y": tf.cast(self.words(tf.strings.as_string(ids)), tf.float32)}

    @tf.function(input_signature=[tf.TensorSpec([None, 6], tf.int32, name="ids")])
    def plain(self, ids):
        return {"y": tf.cast(self.table.lookup(tf.strings.as_string(ids)), tf.float32)}


tables = Tables()
tf.saved_model.save(tables, "layer-table", signatures=tables.layer)
tf.saved_model.save(tables, "plain-table", signatures=tables.plain)
module = Module()
tf.saved_model.save(module, "module")
tf.saved_model.save(module, "texts", signatures=module.words.get_concrete_function())
one = tf.function(lambda x: x * 2).get_concrete_function(tf.TensorSpec([4, 8], tf.float32, "x"))
tf.saved_model.save(module, "four", signatures=one)
"""

NETS = """
import keras
import numpy as np
import tensorflow as tf


class Module(tf.Module):
    def __init__(self):
        self.weight = tf.Variable(np.random.default_rng(0).normal(size=(8, 3)).astype("f4"))

    @tf.function(input_signature=[tf.TensorSpec([None, 8], tf.float32)])
    def __call__(self, x):
        return x @ self.weight


class Plain(tf.Module):
    def __call__(self, left, right):
        return tf.concat([left, right * 2], 1), tf.nn.gelu(left)


class Svd(tf.Module):
    def __call__(self, x):
        return tf.linalg.svd(tf.reshape(x, [-1, 2, 4]), compute_uv=False)


def model():
    x = keras.Input((8,), name="x")
    hidden = keras.layers.Dense(6, activation="gelu")(x)
    return keras.Model(x, keras.layers.Dense(3, name="y")(hidden))


def doubled():
    x = keras.Input((8,), name="x")
    return keras.Model(x, keras.layers.Lambda(lambda y: y * 2, name="y")(x))


def number():
    return 3
"""


def make(folder):
    (folder / "nets.py").write_text(NETS)
    done = subprocess.run(
        [sys.executable, "-c", SAVE], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (folder / "broken.h5").write_bytes((folder / "small.h5").read_bytes()[:2000])
    (folder / "broken.tflite").write_bytes((folder / "small.tflite").read_bytes()[:400])
    (folder / "nothing").mkdir()
    (folder / "nothing" / "saved_model.pb").write_bytes(b"hello")


TRACING, KERAS = "converters.sources.tracing", "converters.sources.keras"
NO_GATE = {"converters.graph:refuse_operators": "lambda *rest: None"}
CASES = {
    "image": case("image.keras", "image.npz"),
    "gelu-off": case("image.keras", "image.npz", off={f"{TRACING}:HANDLE_ERFC": "False"}),
    "gelu-ungated": case(
        "image.keras", "image.npz", off={f"{TRACING}:HANDLE_ERFC": "False", **NO_GATE}
    ),
    "augmentation-off": case("image.keras", "image.npz", off={f"{KERAS}:TRAINING": "True"}),
    "row": case("row.keras", "row.npz"),
    "captured-off": case(
        "row.keras",
        "row.npz",
        off={
            f"{TRACING}:_fix_captured": "lambda *rest: False",
            f"{TRACING}:finish": "lambda exported, call: exported",
        },
    ),
    "two": case("two.keras", "two.npz"),
    "two-row": case("two.keras", "row.npz"),
    "rnn": case("rnn.keras", "tokens.npz"),
    "attention": case("attention.keras", "tokens.npz"),
    "masked": case("masked.keras", "ids.npz"),
    "resize": case("resize.keras", "image.npz"),
    "mixed": case("mixed.keras", "row.npz", tolerance={"rtol": 0.01, "atol": 0.01}),
    "lookup": case("lookup.keras", "ids.npz"),
    "numbers": case("numbers.keras", "ids.npz"),
    "layer-table": case("layer-table", "ids.npz"),
    "layer-table-off": case(
        "layer-table", "ids.npz", off={f"{TRACING}:_refuse_tables": "lambda *rest: None"}
    ),
    "plain-table": case("plain-table", "ids.npz"),
    "code": case("code.keras", "row.npz"),
    "code-h5": case("code.h5", "row.npz"),
    "text": case("text.keras", "text.npz"),
    "vectors": case("vectors.keras", "text.npz"),
    "text-off": case(
        "text.keras", "text.npz", off={f"{TRACING}:refuse_specs": "lambda *rest: None"}
    ),
    "untrained": case("untrained.keras", "row.npz"),
    "fixed": case("fixed.keras", "row.npz"),
    "same": case("row.keras", "same.npz"),
    "opset": case("row.keras", "row.npz", opset=20),
    "h5": case("small.h5", "x.npz"),
    "keras2-h5": case("keras2.h5", "x.npz"),
    "broken-h5": case("broken.h5", "x.npz"),
    "weights-h5": case("small.weights.h5", "x.npz"),
    "shape": case("image.keras", "row.npz"),
    "factory": case("nets:model", "x.npz", weights="small.weights.h5"),
    "lambda": case("nets:doubled", "x.npz"),
    "keras3": case("keras3", "x.npz"),
    "dict": case("dict", "x.npz"),
    "keras2": case("keras2", "x.npz"),
    "module": case("module", "x.npz"),
    "texts": case("texts", "text.npz"),
    "four": case("four", "x.npz"),
    "nothing": case("nothing", "x.npz"),
    "tf-module": case("nets:Module", "x.npz"),
    "tf-plain": case("nets:Plain", "two.npz"),
    "tf-svd": case("nets:Svd", "x.npz"),
    "tf-number": case("nets:number", "x.npz"),
    "tflite": case("small.tflite", "x.npz"),
    "old-tflite": case("old.tflite", "x.npz"),
    "int8-tflite": case("int8.tflite", "x.npz"),
    "broken-tflite": case("broken.tflite", "x.npz"),
}

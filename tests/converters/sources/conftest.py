"""What several files of tests share: everything that TensorFlow converts, once."""

import pytest

from tests.converters.many import make_once, outcomes_once
from tests.converters.sources import tensorflow_cases


@pytest.fixture(scope="session")
def tensorflow_folder(tmp_path_factory):
    return make_once(tmp_path_factory, "tensorflow", tensorflow_cases.make)


@pytest.fixture(scope="session")
def tensorflow_outcomes(tensorflow_folder):
    return outcomes_once(tensorflow_folder, tensorflow_cases.CASES)

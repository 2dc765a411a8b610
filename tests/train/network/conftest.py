"""Seeds for the tests of networks."""

import pytest

from train.hardware import load_keras


@pytest.fixture(autouse=True)
def _seeded():
    load_keras(0)

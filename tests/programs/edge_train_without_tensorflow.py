"""``edge-train`` as if TensorFlow were not installed: nothing finds it."""

import sys
from importlib.machinery import PathFinder


class Finder(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        hidden = name.partition(".")[0] in ("tensorflow", "tensorboard")
        return None if hidden else super().find_spec(name, path, target)


if __name__ == "__main__":
    sys.meta_path[sys.meta_path.index(PathFinder)] = Finder
    from train.cli import main

    try:
        main()
    finally:
        assert "tensorflow" not in sys.modules

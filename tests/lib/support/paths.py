"""Places in the checkout that tests need."""

from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[3]
TESTS = CHECKOUT / "tests"
PROGRAMS = TESTS / "programs"

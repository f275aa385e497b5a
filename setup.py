"""What pyproject.toml cannot say of the package."""

from pathlib import Path

from setuptools import setup

PYTHONS = (Path(__file__).parent / "build" / "pythons").read_text(encoding="utf-8").split()

setup(
    python_requires=f">={PYTHONS[0]}",
    # build/ is tracked: what setuptools makes on its way goes elsewhere.
    options={"build": {"build_base": ".scratch/setuptools"}},
)

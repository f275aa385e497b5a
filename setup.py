"""Package metadata; tool settings are in pyproject.toml."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
PYTHONS = (HERE / "build" / "pythons").read_text(encoding="utf-8").split()
INIT = (HERE / "lib" / "gevent_epmd" / "__init__.py").read_text(encoding="utf-8")

setup(
    name="gevent-epmd",
    version=re.search(r'__version__ = "(.+)"', INIT).group(1),
    description="The Erlang Port Mapper Daemon (epmd) in Python on gevent",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    package_dir={"": "lib"},
    packages=find_packages("lib"),
    package_data={"gevent_epmd": ["py.typed"]},
    python_requires=f">={PYTHONS[0]}",
    install_requires=["gevent>=24.10.1", "docopt-ng>=0.9"],
    extras_require={
        "test": [
            "pytest>=8",
            "pytest-xdist>=3.6",
            "hypothesis>=6",
            "coverage>=7.10",
            "PyYAML>=6",
            "setuptools>=70.1",
            "mypy",
            "ruff",
            "codespell>=2.4",
            "rumdl>=0.3",
        ],
        "build": ["pyinstaller>=6.22"],
        "fuzz": ["atheris>=3"],
    },
    entry_points={
        "console_scripts": ["epmd = gevent_epmd.program.cli:main"],
        "pytest11": ["gevent_epmd = gevent_epmd.testing.plugin"],
    },
    # build/ is tracked: what setuptools makes on its way goes elsewhere.
    options={"build": {"build_base": ".scratch/setuptools"}},
    classifiers=[
        "Development Status :: 4 - Beta",
        "Environment :: No Input/Output (Daemon)",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Erlang",
        "Programming Language :: Python :: 3 :: Only",
        *(f"Programming Language :: Python :: {version}" for version in PYTHONS),
        "Topic :: System :: Networking",
    ],
)

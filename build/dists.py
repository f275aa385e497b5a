"""Makes the wheel and the sdist of this checkout, the same bytes each time: dists.py FOLDER

SOURCE_DATE_EPOCH is the date of all that is in them.  The wheel heeds it already.
"""

from __future__ import annotations

import gzip
import os
import shutil
import sys
import tarfile
from pathlib import Path

from setuptools import build_meta

ROOT = Path(__file__).parents[1]


def main(folder: Path) -> None:
    os.umask(0o022)
    os.chdir(ROOT)
    # setuptools would take modules along that are no more.
    shutil.rmtree(".scratch/setuptools", ignore_errors=True)
    build_meta.build_wheel(str(folder))
    _settle(folder / build_meta.build_sdist(str(folder)), int(os.environ["SOURCE_DATE_EPOCH"]))


def _settle(sdist: Path, date: int) -> None:
    """In place: sorted, of this date, and of nobody."""
    new = sdist.with_suffix(".new")
    with (
        tarfile.open(sdist) as old,
        new.open("wb") as file,
        gzip.GzipFile("", "wb", 9, file, mtime=date) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as settled,
    ):
        for member in sorted(old, key=lambda member: member.name):
            member.mtime, member.uid, member.gid, member.uname, member.gname = date, 0, 0, "", ""
            member.mode = 0o755 if member.mode & 0o100 else 0o644
            member.pax_headers = {}
            settled.addfile(member, old.extractfile(member) if member.isfile() else None)
    new.replace(sdist)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())

"""Checks what wheel and sdist hold: `python contents.py WHEEL SDIST`, in a clone."""

import pathlib
import subprocess
import sys
import tarfile
import zipfile

_NOT_SHIPPED = (".ci/", ".gitignore", ".pre-commit-config.yaml", ".github/")


def main(wheel: str, sdist: str) -> None:
    """Exit with a message if something is missing, or too much."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {name.partition("/")[0] for name in names}
    if {top for top in tops if not top.endswith(".dist-info")} != {"aggregator"}:
        sys.exit(f"{wheel}: installs {', '.join(sorted(tops))}")
    listed = subprocess.run(["git", "ls-files", "-z"], capture_output=True, text=True, check=True).stdout
    tracked = {name for name in listed.split("\0") if name and not name.startswith(_NOT_SHIPPED)}
    with tarfile.open(sdist) as files:
        shipped = {member.name.partition("/")[2] for member in files if member.isfile()}
    if missing := sorted(tracked - shipped):
        sys.exit(f"{sdist}: lacks {', '.join(missing)}")
    packages = ("aggregator", "butler", "execution", "schemas", "stages", "storage", "workers")
    sources = {name for name in tracked if name.partition("/")[0] in packages}
    expected = {name if name.startswith("aggregator/") else f"aggregator/{name}" for name in sources}
    if missing := sorted(expected - set(names)):
        sys.exit(f"{wheel}: lacks {', '.join(missing)}")
    print(f"{pathlib.Path(wheel).name}: {len(names)} files; {pathlib.Path(sdist).name}: {len(shipped)} files")


if __name__ == "__main__":
    main(*sys.argv[1:])

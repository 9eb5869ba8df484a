"""Packs the app's folder into a zip whose bytes depend on nothing but its content, and checks one.

    package.py pack <folder> <zip>
    package.py check <zip> <newest glibc>
"""

import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile
from elftools.elf.gnuversions import GNUVerNeedSection

REPO = Path(__file__).resolve().parent.parent
PROGRAM = "deltacompare"
# What any Linux with glibc has. No OpenSSL, no libgcc beyond what the host's image surely brings.
LIBRARIES = {"libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "librt.so.1", "ld-linux-x86-64.so.2"}


def pack(folder, target):
    moment = time.gmtime(int(os.environ["SOURCE_DATE_EPOCH"]))[:6]
    temporary = target.with_suffix(".new")
    with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            name = path.relative_to(folder).as_posix()
            entry = zipfile.ZipInfo(name, moment)
            entry.create_system = 3  # Unix: the mode counts.
            entry.external_attr = (0o100755 if name == PROGRAM else 0o100644) << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, path.read_bytes(), compresslevel=9)
    temporary.replace(target)


def expected_names():
    functions = {f"{p.parent.name}/function.json" for p in (REPO / "functions").glob("*/function.json")}
    return functions | {"host.json", PROGRAM}


def check_entries(archive):
    names = [entry.filename for entry in archive.infolist()]
    assert sorted(names) == names and len(set(names)) == len(names), "entries are not sorted, or come twice"
    assert set(names) == expected_names(), f"too much or too little: {set(names) ^ expected_names()}"
    for entry in archive.infolist():
        mode = 0o100755 if entry.filename == PROGRAM else 0o100644
        assert entry.external_attr >> 16 == mode, f"{entry.filename} has mode {entry.external_attr >> 16:o}"


def check_program(path, newest):
    with path.open("rb") as file:
        elf = ELFFile(file)
        assert elf.get_section_by_name(".symtab") is None, "the program is not stripped"
        needed, versions = set(), set()
        for section in elf.iter_sections():
            if isinstance(section, DynamicSection):
                needed |= {tag.needed for tag in section.iter_tags() if tag.entry.d_tag == "DT_NEEDED"}
            if isinstance(section, GNUVerNeedSection):
                for library, symbols in section.iter_versions():
                    versions |= {(library.name, symbol.name) for symbol in symbols}
    assert needed and needed <= LIBRARIES, f"the program needs {sorted(needed - LIBRARIES)}"
    limit = tuple(map(int, newest.split(".")))
    found = set()
    for library, name in versions:
        match = re.fullmatch(r"GLIBC_(\d+(?:\.\d+)*)", name)
        assert match, f"the program needs {name} of {library}"
        found.add(tuple(map(int, match[1].split("."))))
    assert found and max(found) <= limit, f"the program needs glibc {max(found)}, not {newest}"
    return ".".join(map(str, max(found)))


def answers(port):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=1):
            return True
    except urllib.error.HTTPError:
        return True  # Any answer means ready, as it does to the Functions host.
    except OSError:
        return False


def check_start(folder):
    """As the Functions host starts it: from the app's folder, with the arguments of host.json."""
    description = json.loads((folder / "host.json").read_text())["customHandler"]["description"]
    program = folder / description["defaultExecutablePath"]
    version = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {"PATH": "/usr/bin", "FUNCTIONS_CUSTOMHANDLER_PORT": str(port)}
    with subprocess.Popen([program, *description["arguments"]], cwd=folder, env=environment) as process:
        try:
            deadline = time.monotonic() + 30
            while not answers(port):
                assert process.poll() is None, f"the program ended with {process.returncode}"
                assert time.monotonic() < deadline, "no answer within 30 s"
                time.sleep(0.05)
        finally:
            process.kill()
    return version.stdout.strip()


def check(path, newest):
    with tempfile.TemporaryDirectory() as temporary, zipfile.ZipFile(path) as archive:
        folder = Path(temporary)
        check_entries(archive)
        for entry in archive.infolist():
            (folder / entry.filename).parent.mkdir(exist_ok=True)
            (folder / entry.filename).write_bytes(archive.read(entry))
            (folder / entry.filename).chmod(entry.external_attr >> 16 & 0o777)
        glibc = check_program(folder / PROGRAM, newest)
        version = check_start(folder)
    print(f"package: {version}, {path.stat().st_size} bytes, needs glibc {glibc}, answers the host")


if __name__ == "__main__":
    if sys.argv[1] == "pack":
        pack(Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        check(Path(sys.argv[2]), sys.argv[3])

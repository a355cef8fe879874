"""Build the part of three.js that the viewer's page carries: `python tools/bundle_three.py` (Node.js and npm needed).

three and esbuild come from npm in the versions and with the hashes of `tools/three/package-lock.json`, and no script of a
package runs. The same lock gives the same bytes; `--check` says whether the files in the package are those bytes. To move
to another version, change `tools/three/package.json` and run `npm install --package-lock-only
--omit-lockfile-registry-resolved` beside it.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
RECIPE = ROOT / "tools/three"
TARGET = ROOT / "jointnet_cli/scene/viewer"
BUNDLE, LICENSE = "three.min.js", "three.LICENSE"
FLAGS = ["--bundle", "--minify", "--format=iife", "--global-name=THREE", "--target=es2021", "--legal-comments=none"]


def build(folder: Path) -> dict[str, str]:
    """The files by name, built in an empty folder."""
    for file in RECIPE.iterdir():
        shutil.copy(file, folder)
    subprocess.run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=folder, check=True)
    esbuild = folder / "node_modules/.bin/esbuild"
    made = subprocess.run([esbuild, "entry.js", *FLAGS], cwd=folder, check=True, capture_output=True, text=True).stdout
    package = folder / "node_modules/three"
    version = json.loads((package / "package.json").read_text())["version"]
    license = (package / "LICENSE").read_text()
    notice = f"/*! three.js {version}, parts, minified.\n\n{license.strip()}\n*/\n"
    return {BUNDLE: notice + made, LICENSE: license}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare, write nothing; code 1 if a file differs")
    check = parser.parse_args().check
    with tempfile.TemporaryDirectory() as folder:
        files = build(Path(folder))
    if check:
        different = [name for name, text in files.items() if (TARGET / name).read_text(encoding="utf-8") != text]
        print("different: " + ", ".join(different) if different else "the same")
        return int(bool(different))
    for name, text in files.items():
        (TARGET / name).write_text(text, encoding="utf-8", newline="\n")
        print(TARGET / name)
    return 0


if __name__ == "__main__":
    sys.exit(main())

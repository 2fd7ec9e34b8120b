"""`trim.py VENV` removes from an environment what nothing in the images imports.

The list is short on purpose: each line saves megabytes, and the tests of the containers run the
services without it.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

UNUSED = (
    # Tests and sources for compiling against a package.
    "**/tests",
    "annotated_types/test_cases.py",
    "numpy/_core/include",
    "av/include",
    "**/*.pyx",
    "**/*.pxd",
    "**/*.pyi",
    # Helpers of onnxruntime for exporting, quantizing and optimizing models.
    "onnxruntime/transformers",
    "onnxruntime/quantization",
    "onnxruntime/tools",
    "onnxruntime/datasets",
    # Converters of other model formats; recognition only reads what is converted.
    "ctranslate2/converters",
    "ctranslate2/specs",
    # The voice's package uses nothing of scipy but its Fourier transform.
    *(
        f"scipy/{part}"
        for part in (
            "cluster",
            "constants",
            "datasets",
            "differentiate",
            "fftpack",
            "integrate",
            "interpolate",
            "io",
            "linalg",
            "misc",
            "ndimage",
            "odr",
            "optimize",
            "signal",
            "sparse",
            "spatial",
            "stats",
        )
    ),
    # Symbolic mathematics, which only onnxruntime's helpers use.
    "sympy",
    "sympy-*.dist-info",
    "mpmath",
    "mpmath-*.dist-info",
    "isympy.py",
    # The hub's parallel download and command line: the weights are in the image.
    "hf_xet",
    "hf_xet-*.dist-info",
    "huggingface_hub/cli",
)


def unused(site_packages: Path) -> Iterator[Path]:
    for pattern in UNUSED:
        yield from site_packages.glob(pattern)


def main() -> int:
    (site_packages,) = Path(sys.argv[1]).glob("lib/python3*/site-packages")
    for path in list(unused(site_packages)):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

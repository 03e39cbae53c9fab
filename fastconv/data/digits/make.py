"""How digits.npz was made, once: ``python -m fastconv.data.digits.make`` with scikit-learn. Nothing imports this."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np


def main() -> None:
    from sklearn.datasets import load_digits

    digits = load_digits()
    buffer = io.BytesIO()
    np.savez_compressed(buffer, images=digits.images.astype(np.uint8), labels=digits.target.astype(np.uint8))
    Path(__file__).with_name("digits.npz").write_bytes(buffer.getvalue())


if __name__ == "__main__":
    main()

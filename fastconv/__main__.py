"""``python -m fastconv`` is the command ``fastconv``."""

from .cli import main

if __name__ == "__main__":
    raise SystemExit(main())

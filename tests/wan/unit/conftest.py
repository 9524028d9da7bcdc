import sys
from pathlib import Path

WAN = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(WAN), str(WAN.parent / "kafka")]

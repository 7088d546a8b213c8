"""What several tests share. Holds no tests."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

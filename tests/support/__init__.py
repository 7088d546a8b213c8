"""Helpers that several test files share; no tests."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

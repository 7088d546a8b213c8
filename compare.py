"""Lay finished runs side by side: `python compare.py logs/* --out report`; the report says how sure each comparison is."""

from asym_lightning.analysis.command import main

if __name__ == "__main__":
    main()

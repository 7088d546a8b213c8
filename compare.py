"""Compare finished runs: `python compare.py logs/* --out report`.

The report has the uncertainty of each comparison.
"""

from asym_lightning.analysis.command import main

if __name__ == "__main__":
    main()

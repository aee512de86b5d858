"""The doors of the house: ``listener`` is one that may fail, ``listeners`` moves all, or none."""

"""The crash lab, for any store that must survive a crash."""

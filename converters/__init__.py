"""Foreign adapter formats: readers, refusals, exact folds to normal form, and the release folder's writer."""

"""The patients: table, polar maps, segments, split, sealed test set. Imports no torch, ray."""

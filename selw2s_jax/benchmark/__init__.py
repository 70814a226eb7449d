"""How fast the programs of a run are on the devices at hand."""

"""The machine under a run: files, processes, interrupts. It knows no model."""

"""The whole system on one machine: the emulator, moto, and the functions, wired as template.yaml says."""

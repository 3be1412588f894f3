"""`python -m marketplace_emulator`."""

from marketplace_emulator.cli import main

if __name__ == "__main__":
    main()

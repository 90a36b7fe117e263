"""`python -m nameko` is the command line."""

from nameko.cli.main import main

if __name__ == "__main__":
    main()

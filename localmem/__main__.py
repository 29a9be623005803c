"""python -m localmem: the command line."""

from localmem.cli import main

if __name__ == "__main__":
    main(prog_name="localmem")

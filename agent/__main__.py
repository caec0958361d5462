"""`python -m agent` is `giant`: launchers such as torchrun start modules."""

from agent.cli.app import main

if __name__ == "__main__":
    main()

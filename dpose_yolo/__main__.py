"""`python -m dpose_yolo` is the `dpose` command."""

from dpose_yolo.cli import main

if __name__ == "__main__":
    main()

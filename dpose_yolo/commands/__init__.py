"""One module for each command of `dpose`, each with a `main(settings)`."""

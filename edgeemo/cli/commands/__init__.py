"""One file for each verb of the command line: ``add_parser(subparsers)`` and ``run(args)``."""

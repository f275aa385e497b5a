"""The port mapper, for programs that embed it. Independent of command line, environment and executable."""

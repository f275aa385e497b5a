"""The port mapper as a program embeds it: knows no command line, no environment and no executable."""

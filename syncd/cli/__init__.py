"""The command line: options, output for people and for programs, exit codes.

A command reads its options, calls the package that does the work, and shows the result. Rules about
payments do not belong here.
"""

"""The commands: parse and print, a file per group. Does not belong here: anything a library caller would want."""

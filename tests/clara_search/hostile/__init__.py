"""Hostile files, opened by the commands in a process whose memory is measured."""

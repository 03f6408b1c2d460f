#!/bin/sh
# The main program of the app. The job's arguments come from ARGS, through the Dockerfile's CMD.
exec perl ./chains.pl "$@" in out

#!/bin/sh
# Renders scene.pov to picture.png, with POV-Ray options from ARGS, and updates fraction_done.

# shellcheck disable=SC2086 # ARGS is a list of options
povray scene.pov +Opicture.png -D +WT1 ${ARGS-} 2>povray.log &
povray=$!
trap 'kill $povray' TERM

# POV-Ray overwrites one line: "Rendered 7680 of 76800 pixels (10%)".
while sleep 1; do
	percent=$(tr '\r' '\n' <povray.log | sed -n 's/^Rendered .*(\([0-9]*\)%).*/\1/p' | tail -n 1)
	if [ -n "$percent" ]; then
		printf '%d.%02d\n' $((percent / 100)) $((percent % 100)) >fraction_done.new
		mv fraction_done.new fraction_done # atomic: a reader never finds it empty
	fi
done &
progress=$!

wait $povray
code=$?
kill $progress
tr '\r' '\n' <povray.log | grep -v '^Rendered' >&2
exit $code

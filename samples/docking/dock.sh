#!/bin/sh
# Docks ligand into protein, within the box of conf, with more of Vina's options in ARGS.
# The three are BOINC input files and poses is the output file: links in the slot, resolved here.
# Vina's command line has precedence over conf, which names files too, and an exhaustiveness.
set -u
cd "$BOINC_SLOT_DIR" || exit 1

# shellcheck disable=SC2086 # ARGS is a list of options
vina --receptor "$(boinc_resolve protein)" --ligand "$(boinc_resolve ligand)" \
	--config "$(boinc_resolve conf)" --out "$(boinc_resolve poses)" ${ARGS-} >vina.log 2>&1 &
vina=$!
trap 'kill $vina' TERM

# Vina prints 51 stars, one after the other.
while sleep 1; do
	stars=$(tr -cd '*' <vina.log | wc -c)
	printf '%d.%03d\n' $((stars / 51)) $((stars * 1000 / 51 % 1000)) >fraction_done.new
	mv fraction_done.new fraction_done # in one step: it is never seen empty
done &
progress=$!

wait $vina
code=$?
kill $progress
cat vina.log
exit $code

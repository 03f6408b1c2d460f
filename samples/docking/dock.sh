#!/bin/sh
# Docks ligand into protein, within the box of conf. ARGS has more options for Vina.
# The three are BOINC input files and poses is the output file. They are links in the slot, resolved here.
# Vina's command line has precedence over conf, which also contains file names and an exhaustiveness.
set -u
cd "$BOINC_SLOT_DIR" || exit 1

# shellcheck disable=SC2086 # ARGS is a list of options
vina --receptor "$(boinc_resolve protein)" --ligand "$(boinc_resolve ligand)" \
	--config "$(boinc_resolve conf)" --out "$(boinc_resolve poses)" ${ARGS-} >vina.log 2>&1 &
vina=$!
trap 'kill $vina' TERM

# Vina prints 51 stars as its progress.
while sleep 1; do
	stars=$(tr -cd '*' <vina.log | wc -c)
	printf '%d.%03d\n' $((stars / 51)) $((stars * 1000 / 51 % 1000)) >fraction_done.new
	mv fraction_done.new fraction_done # atomic: a reader never finds it empty
done &
progress=$!

wait $vina
code=$?
kill $progress
cat vina.log
exit $code

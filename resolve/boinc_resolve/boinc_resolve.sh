#!/bin/sh
# boinc_resolve NAME: prints the path of a BOINC file for scripts inside a container.
# It answers as the program of that name does (main.go beside it tells what and when) and
# needs, beside a POSIX shell, only dd, tr, sed and readlink; BusyBox has them all.
#
# BOINC_SLOT_DIR and BOINC_PROJECT_DIR say where the two directories are mounted.

LC_ALL=C
export LC_ALL

exists() { [ -e "$1" ] || [ -h "$1" ]; }

# Sets path to where $1, the target of a link, is found when the project's directory is mounted.
mounted() {
	path=$1
	[ -n "${BOINC_PROJECT_DIR-}" ] || return 1
	case $1 in
	../../projects//*) return 1 ;;
	../../projects/*/?*)
		path=${1#../../projects/*/}
		path=${BOINC_PROJECT_DIR%/}/$path
		;;
	*) return 1 ;;
	esac
}

# Sets text to $1 with its entities decoded, in one pass: &amp;lt; is the text "&lt;".
unescape() {
	text='' todo=$1
	while :; do
		case $todo in
		*'&'*) text=$text${todo%%'&'*} todo='&'${todo#*'&'} ;;
		*) text=$text$todo; return ;;
		esac
		case $todo in
		'&amp;'*) c='&' ;;
		'&lt;'*) c='<' ;;
		'&gt;'*) c='>' ;;
		'&quot;'*) c='"' ;;
		'&apos;'*) c="'" ;;
		'&#3'[2-9]';'* | '&#'[4-9][0-9]';'* | '&#1'[0-9][0-9]';'* | '&#2'[0-4][0-9]';'* | '&#25'[0-5]';'*)
			c=${todo#'&#'}
			# shellcheck disable=SC2059 # the format is the character, in octal
			c=$(printf "\\$(printf %03o "${c%%';'*}")")
			;;
		*)
			text=$text'&' todo=${todo#'&'}
			continue
			;;
		esac
		text=$text$c todo=${todo#*';'}
	done
}

[ $# = 2 ] && [ "$1" = -- ] && shift
if [ $# != 1 ] || [ -z "$1" ]; then
	echo "usage: boinc_resolve NAME" >&2
	exit 2
fi

name=$1
slot=${BOINC_SLOT_DIR-}
case $name in
/*) ;;
*)
	if [ -n "$slot" ] && ! exists "$name"; then
		there=${slot%/}/$name
		case $name in
		*/*) exists "$there" && name=$there ;;
		*) name=$there ;;
		esac
	fi
	;;
esac

path=$name
case $name in
/*) file=$name ;;
*) file=./$name ;; # a name may begin with "-"
esac

if [ -h "$file" ]; then
	mounted "$(readlink "$file")" || path=$name
elif [ -f "$file" ] && [ -r "$file" ]; then
	# the first line, of which 511 bytes count, and which a NUL ends
	line=$(dd bs=511 count=1 <"$file" 2>/dev/null | tr '\000' '\n' | sed 1q)
	case $line in
	*'<soft_link>'*'<'*)
		target=${line#*'<soft_link>'}
		target=${target%%'<'*}
		target=$(printf '%s\n' "$target" | sed 's/^[[:space:]]*//; s/[[:space:]]*$//')
		if [ -n "$target" ]; then
			unescape "$target"
			mounted "$text" || path=$text
		fi
		;;
	esac
fi
printf '%s\n' "$path"

package job

import (
	"crypto/sha256"
	"encoding/hex"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"boincdocker/boincapi"
)

// The labels on every container and image. Clean-up touches only what carries this data
// directory's label.
const (
	LabelProject  = "boinc.project"
	LabelApp      = "boinc.app"
	LabelResult   = "boinc.result"
	LabelWorkunit = "boinc.workunit"
	LabelDataDir  = "boinc.data_dir"
	LabelGPU      = "boinc.gpu" // the devices of its grant
	LabelSlot     = "boinc.slot"
	LabelContent  = "boinc.content" // identity of an image: hash of what it was built from
	LabelWrapper  = "boinc.docker_wrapper"
	LabelOutput   = "boinc.output" // "files": the container writes the files for its output itself
	LabelProof    = "boinc.proof"  // that a wrapper of this data directory made the container: a MAC, so that only the right one counts
)

// The names under which images are tagged with what they were built from, or with the archive that they
// were loaded from, and that of the helper's. They are the wrapper's, and no job may use them.
const (
	ContentRepository = "boinc_content"
	ArchiveRepository = "boinc_archive"
	HelperRepository  = "boinc_helper"
)

// OnlyOurs reports a reference to an image that only wrappers give. A job has no use for it.
func OnlyOurs(name string) bool {
	for part := range strings.SplitSeq(strings.ToLower(name), "/") {
		if i := strings.IndexAny(part, ":@"); i >= 0 {
			part = part[:i]
		}
		if slices.Contains([]string{ContentRepository, ArchiveRepository, HelperRepository}, part) {
			return true
		}
	}
	return false
}

// archiveTag names the image of an archive. A physical name is never reused for other bytes
// (tools/update_versions and tools/stage_file of BOINC refuse it), so it is an identity within its
// project; a copy in the slot has only a logical name, and is known by its workunit too. Each data directory has images of
// its own, and signed jobs have others than those that aren't.
func archiveTag(d *boincapi.InitData, host string, linked, signed bool) string {
	parts := []string{host}
	if d != nil {
		parts = []string{d.BoincDir, strconv.FormatBool(signed), projectName(d), filepath.Base(host)}
		if !linked {
			parts = append(parts, d.WUName)
		}
	}
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return ArchiveRepository + ":" + hex.EncodeToString(sum[:])
}

// clientPrefix marks the containers and images that a client which knows Docker removes when it
// doesn't list them (docker_is_boinc_name in BOINC's lib/util.cpp).
const clientPrefix = "boinc__"

// ContainerName is the container's name.
//
// A client that knows Docker removes at its start every container boinc__* that isn't
// boinc__<project>__<result> of one of its tasks whose plan class contains "docker"
// (cleanup_docker in BOINC's client/cs_apps.cpp). So there it is exactly that name; under any other
// client, which would remove it or never clean it up, the prefix is another. The project is part of the
// name, because two projects may call their results alike.
func ContainerName(d *boincapi.InitData, dir string) string {
	switch {
	case d == nil:
		return "boinc_standalone_" + shortHash(dir)
	case knowsDocker(d):
		name := clientPrefix + strings.Map(lower, projectName(d)+"__"+d.ResultName)
		if containerChars(name) == name {
			return name
		} // else no name that engines accept is the one that the client looks for
	}
	name := containerChars("boinc_" + projectName(d) + "_" + d.ResultName)
	if rest, ok := strings.CutPrefix(name, clientPrefix); ok {
		name = "boinc_" + shortHash(d.ResultName) + "_" + rest
	}
	return name
}

// ImageName is the tag of an image built from a Dockerfile: one per app version when the Dockerfile
// belongs to it, one per workunit when it came with the workunit: that has a hash in it, so that no
// workunit is called what another job's image is. It never begins with boinc__, which clients delete.
func ImageName(d *boincapi.InitData, dir string, appVersion bool) string {
	switch {
	case d == nil:
		return "boinc_standalone_" + shortHash(dir)
	case !appVersion:
		return imageChars("boinc", d.WUName) + "_" + longHash(projectName(d)+"\x00"+d.WUName)
	default:
		return imageChars("boinc", projectName(d), d.AppName, d.PlanClass, strconv.Itoa(d.AppVersion))
	}
}

// knowsDocker reports whether the client that wrote d looks after the containers of this job.
func knowsDocker(d *boincapi.InitData) bool {
	return d.HostInfo.DockerVersion != "" && strings.Contains(d.PlanClass, "docker")
}

// projectName is the last part of the project directory, which is what the client makes of the
// project's URL. The path may mix separators on Windows.
func projectName(d *boincapi.InitData) string {
	return path.Base(strings.ReplaceAll(d.ProjectDir, `\`, "/"))
}

// containerChars makes name one that engines accept: [a-zA-Z0-9][a-zA-Z0-9_.-]+, in lower case. What had to be
// changed gets a hash, so that different names stay different.
func containerChars(name string) string {
	clean := strings.Map(func(r rune) rune {
		r = lower(r)
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '_' || r == '.' || r == '-' {
			return r
		}
		return '_'
	}, name)
	return bounded(clean, name)
}

// lower is as the client's downcase_string (BOINC's lib/str_util.cpp): it knows no letters but these.
func lower(r rune) rune {
	if r >= 'A' && r <= 'Z' {
		return r + 'a' - 'A'
	}
	return r
}

// imageChars joins the parts to a name that engines accept for images: lower case letters and
// digits with single separators "." "_" "-" between them.
func imageChars(parts ...string) string {
	var clean, asked []string
	for _, p := range parts {
		if p == "" {
			continue
		}
		asked = append(asked, strings.ToLower(p))
		var b strings.Builder
		sep := byte(0)
		for _, r := range strings.ToLower(p) {
			switch {
			case r >= 'a' && r <= 'z' || r >= '0' && r <= '9':
				if sep != 0 && b.Len() > 0 {
					b.WriteByte(sep)
				}
				sep = 0
				b.WriteRune(r)
			case sep == 0 && (r == '.' || r == '-'):
				sep = byte(r)
			default:
				sep = '_'
			}
		}
		if b.Len() > 0 {
			clean = append(clean, b.String())
		}
	}
	return bounded(strings.Join(clean, "_"), strings.Join(asked, "_"))
}

// bounded returns clean, with a hash of the name it stands for where the two differ or it is too
// long.
func bounded(clean, asked string) string {
	const longest = 200 // bytes; engines take 255
	if clean == asked && len(clean) <= longest {
		return clean
	}
	if len(clean) > longest {
		clean = clean[:longest]
	}
	return strings.TrimRight(clean, "._-") + "_" + shortHash(asked)
}

func shortHash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:4])
}

// longHash is for names that a stranger chooses.
func longHash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:8])
}

// outputName is what follows RESULT_ in an output file's name: N or rRANDOM_N, as the server makes them
// (tools/process_result_template.cpp, tools/backend_lib.cpp), and an ending that a template may add.
var outputName = regexp.MustCompile(`^(r\d+_)?\d+(\.[A-Za-z0-9.]+)?$`)

// isOutput reports whether target is one of this result's output files, which the job may write. Names of
// workunits are not the project's alone to choose, so a file of the app version never is.
func isOutput(d *boincapi.InitData, target string) bool {
	if d == nil || d.ResultName == "" {
		return false
	}
	name := path.Base(strings.ReplaceAll(target, `\`, "/"))
	rest, ok := strings.CutPrefix(name, d.ResultName+"_")
	return ok && outputName.MatchString(rest) && !slices.Contains(d.AppFiles, name)
}

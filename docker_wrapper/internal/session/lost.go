package session

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"unicode"

	"boincdocker/boincapi"
	"boincdocker/docker_wrapper/internal/engine"
	"boincdocker/docker_wrapper/internal/job"
	"boincdocker/docker_wrapper/internal/slot"
)

// This file decides how a job ends that ended with 0 and whose outputs are not all delivered.

// maxNamed is how many outputs a message for the project names.
const maxNamed = 3

// fault is an output that wasn't delivered.
type fault struct {
	text    string
	file    string // base name of what to look for elsewhere; "" if it is known where the output is
	warning bool   // it may be none
}

// judge returns how the job ends: a job that ended with 0 has failed if an output wasn't delivered. lost are the linked ones. A
// job that ended with an error keeps its code.
func (k *Keeper) judge(ctx context.Context, done Done, lost []job.Left) Done {
	if done.Code != 0 {
		return done
	}
	faults := k.faults(lost)
	where := k.lookFor(ctx, faults)
	var texts []string
	for _, f := range faults {
		if text := f.text + where[f.file]; f.warning {
			k.log.Warn().Msg(text)
		} else {
			texts = append(texts, text)
		}
	}
	if len(texts) == 0 {
		return done
	}
	for _, text := range texts[min(len(texts), maxNamed):] {
		k.log.Error().Msg(text)
	}
	if more := len(texts) - maxNamed; more > 0 {
		texts = append(texts[:maxNamed], fmt.Sprintf("and %d more", more))
	}
	return Done{Code: boincapi.ExitChildFailed, Message: strings.Join(texts, "; ")}
}

// faults are the outputs that weren't delivered, without those that the job need not make.
func (k *Keeper) faults(lost []job.Left) (faults []fault) {
	j := k.o.Job
	copied := map[string]bool{} // host paths of failed copies
	known := k.clientsOutputs(len(lost)+len(k.uncopied) > 0)
	optional := func(logical, physical string) bool {
		return slices.ContainsFunc(known, func(o boincapi.Output) bool {
			return (o.Physical == physical || o.Logical == logical) && (o.Optional || o.Uploaded)
		})
	}
	for _, c := range k.uncopied {
		copied[filepath.Join(c.Copy.Root, c.Copy.Dst)] = true
		if c.Missing && (c.Copy.Optional || optional(c.Copy.Dst, path.Base(c.Copy.Dst))) {
			continue
		}
		f := fault{text: "copy_from_container: " + c.Error()}
		if c.Missing {
			f.file = path.Base(c.Copy.Src)
		}
		faults = append(faults, f)
	}
	links := map[string]job.Link{}
	for _, name := range slices.Sorted(maps.Keys(k.store.Episode().Lost)) {
		if !slices.ContainsFunc(j.Slot.Links, func(l job.Link) bool { return l.Name == name }) { // of a file of the slot's
			faults = append(faults, fault{text: fmt.Sprintf("output %s: %s", name, k.store.Episode().Lost[name])})
		}
	}
	for _, l := range j.Slot.Links {
		links[l.Name] = l
	}
	for _, o := range known { // those of which the slot says nothing, or too little
		at, why := filepath.Join(k.o.Dir, filepath.FromSlash(o.Logical)), "the job didn't write it"
		link, linked := links[o.Logical]
		if linked {
			at, why = link.Target, fmt.Sprintf("its link wasn't taken for an output's, because its physical name doesn't begin with %s_", k.o.Init.ResultName)
		}
		if link.Output || !linked && !o.Copied || optional(o.Logical, o.Physical) || slices.Contains(j.OptionalOutputs, o.Logical) || copied[at] {
			continue
		}
		if fi, err := os.Lstat(at); err != nil || !fi.Mode().IsRegular() {
			faults = append(faults, fault{text: fmt.Sprintf("output %s (%s): %s", o.Logical, o.Physical, why), file: path.Base(o.Logical)})
		}
	}
	for _, l := range lost {
		link := links[l.Name]
		physical := filepath.Base(link.Target)
		f := fault{text: fmt.Sprintf("output %s (%s): %s", l.Name, physical, l.Why)}
		switch {
		case copied[link.Target]:
			continue
		case l.Why != "":
		case link.Optional || optional(l.Name, physical):
			continue
		case j.Slot.Payload == "":
			f.text += fmt.Sprintf("no pair of copy_from_container has dst = %q", l.Name)
		case k.standalone(): // a link that leads nowhere may be meant for an input
			f.text, f.warning = fmt.Sprintf("%s leads to %s, which isn't there, and the job didn't write it; if it is an output, a client's job fails", l.Name, physical), true
		default:
			f.text += "the job didn't write it"
		}
		if l.Why == "" {
			f.file = path.Base(l.Name)
		}
		faults = append(faults, f)
	}
	return faults
}

// clientsOutputs are this job's outputs as the client knows them; none if that can't be read. needed says that an output is missing,
// which may be optional.
func (k *Keeper) clientsOutputs(needed bool) []boincapi.Output {
	if k.standalone() {
		return nil
	}
	known, err := boincapi.Outputs(k.o.Init.BoincDir, k.o.Init.ResultName)
	if err != nil && needed {
		k.log.Warn().Err(err).Msg("can't tell whether the client takes an output for optional; optional_outputs in job.toml can")
	}
	return known
}

// lookFor says where files are that have the names of missing outputs: ", but the slot has ...".
func (k *Keeper) lookFor(ctx context.Context, faults []fault) map[string]string {
	var names []string
	for _, f := range faults {
		if f.file != "" {
			names = append(names, f.file)
		}
	}
	if len(names) == 0 {
		return nil
	}
	where := map[string]string{}
	inSlot := slot.Like(k.o.Job.Slot, names)
	var inContainer map[string][]string
	if k.container != nil {
		var err error
		if inContainer, err = k.container.FindMade(ctx, names); err != nil {
			k.log.Debug().Err(err).Msg("cannot look for the output in the container")
		}
	}
	for _, name := range names {
		for _, at := range []struct {
			place string
			files []string
		}{{"the container", inContainer[name]}, {"the slot", inSlot[name]}} {
			if len(at.files) > 0 {
				where[name] += fmt.Sprintf("; in %s there is %s", at.place, strings.Join(quoted(at.files), ", "))
			}
		}
	}
	return where
}

// quoted are names that a job has chosen, for a message: on one line, and not too long.
func quoted(names []string) (list []string) {
	for _, name := range names {
		if strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }) || len(name) > maxShown {
			name = fmt.Sprintf("%.*q", maxShown, name)
		}
		list = append(list, name)
	}
	return list
}

// maxShown is how many characters of a file's name a message shows.
const maxShown = 200

// copyOut copies the job's outputs out of the ended container, and remembers those that can't be copied.
func (k *Keeper) copyOut(ctx context.Context) error {
	if copied := k.store.Episode().Copied; copied != nil {
		k.uncopied = copied.Faults
		return nil
	}
	leftOut, err := k.container.CopyOut(ctx, k.o.Job.CopyOut, k.o.Job.Container.Limits.Disk)
	for _, l := range leftOut {
		k.log.Warn().Str("file", l.Name).Msg("not copied: " + l.Why)
	}
	k.uncopied = nil
	var faults engine.CopyErrors
	if errors.As(err, &faults) {
		k.uncopied = faults
		return nil
	}
	return err
}

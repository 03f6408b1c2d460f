package job

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// cover is a mount of the container, over a directory of the image.
type cover struct {
	target string
	what   string // for messages
	memory bool   // its files are gone with the container's processes; engines copy nothing into it or out of it
}

// covers lists all mounts of the container. Where two have one target, the first counts.
func (c Container) covers() (all []cover) {
	for _, m := range c.Mounts {
		all = append(all, cover{m.Target, "a mount", false})
	}
	for _, b := range c.Binds {
		all = append(all, cover{b.Target, "a mount", false})
	}
	for target := range c.Extra.Tmpfs {
		all = append(all, cover{target, "a tmpfs, which is memory", true})
	}
	return append(all,
		cover{"/dev/shm", "a tmpfs, which is memory", true},
		// Runtimes mount these into every container (runc's libcontainer/specconv/example.go).
		cover{"/dev", "a tmpfs, which is memory", true}, cover{"/proc", "the kernel's", true}, cover{"/sys", "the kernel's", true})
}

// over returns the innermost mount over a path of the container. ok is false if the path is the image's own.
func (c Container) over(name string) (at cover, ok bool) {
	all := slices.DeleteFunc(c.covers(), func(o cover) bool { return !inside(name, o.target) })
	if len(all) == 0 {
		return cover{}, false
	}
	return slices.MaxFunc(all, func(a, b cover) int { return cmp.Compare(len(a.target), len(b.target)) }), true
}

// Hidden says what hides a path of the image from the container's programs, and what to do about it; "" for nothing.
func (c Container) Hidden(name string) string {
	at, ok := c.over(name)
	switch {
	case !ok:
		return ""
	case at.target == c.SlotMount:
		return fmt.Sprintf("the slot is mounted at %s and hides what the image has there (mount it elsewhere with slot_dir_mount, "+
			"or copy files instead of mounting them, or build the image in another WORKDIR)", at.target)
	}
	return fmt.Sprintf("%s is %s and hides what the image has there", at.target, at.what)
}

// planVolatile finds what job.toml copies into or out of memory. Engines do as if they copied it.
func planVolatile(c *Config, j *Job) error {
	var errs []error
	refuse := func(key, name, problem, hint string) {
		if at, ok := j.Container.over(name); ok && at.memory {
			e := c.ErrorAt(key, name, "%q: %s is %s: %s", name, at.target, at.what, problem)
			e.Hint = hint
			errs = append(errs, e)
		}
	}
	for _, p := range c.CopyToContainer {
		refuse("copy_to_container.dst", p.Dst, "nothing can be copied to it before the start", "copy it elsewhere")
	}
	const gone = "it is gone with the container, and nothing can be copied from it"
	for _, p := range c.CopyFromContainer {
		refuse("copy_from_container.src", p.Src, gone, "the job must write this output elsewhere")
	}
	for _, p := range c.Checkpoint.Copy {
		refuse("checkpoint.copy.src", p.Src, gone, "the job must write its checkpoint elsewhere")
	}
	if f := j.Checkpoint.ContainerFile; f != "" {
		refuse("checkpoint.file", f, gone, "the job must write its checkpoint elsewhere")
	}
	return errors.Join(errs...)
}

// partlyVolatile gives notes on what a copy leaves out, and on a progress file that isn't found.
func partlyVolatile(c *Config, j *Job) (notes []string) {
	for _, p := range c.CopyFromContainer {
		for _, target := range slices.Sorted(maps.Keys(c.Create.Tmpfs)) {
			if target != p.Src && inside(target, p.Src) {
				notes = append(notes, c.ErrorAt("copy_from_container.src", p.Src, "%q: the tmpfs %s in it is memory, and isn't copied", p.Src, target).Error())
			}
		}
	}
	if f := j.Progress.ContainerFile; f != "" {
		if at, ok := j.Container.over(f); ok && at.memory {
			e := c.Errorf("fraction_done_file", "%q: %s is %s, in which engines find no file", f, at.target, at.what)
			e.Hint = "the job must write it elsewhere"
			notes = append(notes, e.Error())
		}
	}
	return notes
}

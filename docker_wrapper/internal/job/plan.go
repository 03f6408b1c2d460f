package job

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"boincdocker/boincapi"
)

const (
	// WrapperDir is the wrapper's own directory in a slot.
	WrapperDir = ".docker_wrapper"
	payloadDir = WrapperDir + "/payload"
	savedDir   = WrapperDir + "/checkpoint"
	outputDir  = WrapperDir + "/output"

	defaultWorkdir     = "/app"
	defaultFraction    = "fraction_done"
	defaultStopTimeout = 10 * time.Second
	defaultAskTimeout  = 60 * time.Second
	defaultDockerfile  = "Dockerfile"
)

// Input is everything that Plan needs.
type Input struct {
	Config        *Config
	Init          *boincapi.InitData // nil: standalone, without a client
	Dir           string             // the slot, absolute
	ProjectDir    string             // absolute; need not exist when standalone
	Args          []string           // the job's command line
	Dockerfile    string             // slot name; "" means "Dockerfile"
	HasDockerfile bool
	Links         []Link // the slot's link files; Output is decided here
	Signed        bool   // job.toml and Dockerfile, if they exist, are files of the app version
	Policy        Policy
	Host          Host
	Found         []boincapi.Coproc // every GPU that the client has found, used or not; nil if unknown
	LockDir       string            // absolute; "" means the project directory

	// Proof goes on the container as [LabelProof]; "" for none.
	Proof string

	// Self is the path of this program, which can also run in containers; "" if it can't.
	Self string

	// NoHelper reports that this program, on Linux, needs shared libraries. Then it can't hand back files of other users, which it does as root
	// in a container of its own.
	NoHelper bool

	// Static reports that this program runs in any container, as any user: it needs no shared libraries, and everybody may
	// execute its file.
	Static bool

	// RealPath follows the symlinks of a host path, as far as it exists. It gives "" if that fails. nil leaves
	// paths as they are.
	RealPath func(string) string
}

// Host describes this computer.
type Host struct {
	UID, GID int // of the user account that runs the wrapper; -1 on Windows
	CPUs     int
	Memory   int64 // bytes; 0 if unknown
	GPUs     []GPU
	Blind    bool // GPUs can't be listed on this system
}

// Reserved reports whether a name in the slot, or its first directory, belongs to BOINC or to the wrapper. Names that any
// file system takes for the same count as the same.
func Reserved(name string) bool {
	first, _, _ := strings.Cut(name, "/")
	return boincapi.Reserved(first) || boincapi.FoldName(first) == WrapperDir
}

// Plan decides everything about a job before it starts. Mistakes of the job's author are *ConfigError; the error joins all
// of them.
func Plan(in Input) (*Job, error) {
	c := in.Config
	var mistakes []error
	add := func(err error) {
		if err != nil {
			mistakes = append(mistakes, err)
		}
	}
	if in.Dockerfile == "" {
		in.Dockerfile = defaultDockerfile
	}
	if in.ProjectDir == "" && in.Init != nil {
		in.ProjectDir = in.Init.ProjectDir
	}
	standalone := in.Init == nil
	if c.Create.GPUs != "" {
		e := c.Errorf("create_args", "--gpus %s may give this job the GPUs of other jobs", c.Create.GPUs)
		e.Hint = "use_gpu = true gives the GPU that BOINC assigned"
		add(e)
	}
	signed := in.Signed || standalone
	at := hostPaths{realPath: in.RealPath}
	if !standalone {
		at.dataDir = in.Init.BoincDir
	}
	var refused *ConfigError
	if !standalone || in.Policy.Unsigned != "" {
		refused = in.Policy.check(c, signed, false, at)
		if refused != nil && in.Policy.check(c, signed, true, at) != nil {
			add(refused)
		}
	}
	image, err := planImage(in, signed)
	add(err)
	var gpus *GPUGrant
	var noGPU error // may pass; mistakes don't, and come first
	if c.UseGPU {
		if gpus, in.Args, err = planGPU(in); errors.Is(err, ErrNoGPU) {
			noGPU = err
		} else {
			add(err)
		}
	}
	threads := nthreads(in)
	bounds := limits(c, in.Init, threads, signed, in.Policy, in.Host)
	for i := range image.Sources {
		s := &image.Sources[i]
		if s.Unsigned = !signed; s.Dockerfile != "" {
			boundBuild(s, in.Policy, signed, bounds)
			s.Cache = standalone
		}
	}
	j := &Job{
		Standalone: standalone,
		Signed:     signed,
		Image:      image,
		TimeLimit:  Seconds(c.TimeLimit),

		OptionalOutputs: c.OptionalOutputs,
		Missing:         missing(c, in.Policy, signed, image),
		Refused:         refused,
	}

	slotMount := c.SlotDirMount
	if slotMount == "" && len(c.CopyToContainer)+len(c.CopyFromContainer) == 0 {
		slotMount = first(c.Workdir, defaultWorkdir)
	}
	add(planFiles(in, j, slotMount))
	user, err := planUser(in, signed, slotMount != "", at)
	add(err)
	j.Container = Container{
		Name:       ContainerName(in.Init, in.Dir),
		Labels:     labels(in),
		Entrypoint: c.Entrypoint,
		Command:    c.Command,
		User:       user,
		Mounts:     j.Container.Mounts,
		SlotMount:  slotMount,
		Binds:      binds(c, at),
		Ports:      ports(c),
		Network:    network(c, in.Policy, signed),
		Limits:     bounds,
		DropCaps:   !signed,
		Extra:      c.Create,
		WebPort:    c.WebGraphicsGuestPort,
	}
	j.Checkpoint, err = planCheckpoint(in, j, slotMount)
	add(err)
	add(planVolatile(c, j))
	j.Container.AskSignal, j.Stop = j.Checkpoint.Signal, planStop(c, j.Checkpoint)
	add(unpassed(c, j))
	if c.Create.Entrypoint != nil {
		j.Container.Entrypoint = []string{*c.Create.Entrypoint}
	}
	if c.AppendCmdlineArgs {
		j.Container.AppendArgs = in.Args
	}
	j.Image.Labels = imageLabels(j.Container.Labels)
	if j.Logs != (Logs{}) && in.Static {
		j.Logs.Writer = in.Self
		if !standalone {
			j.Logs.Dir = filepath.Join(in.Dir, filepath.FromSlash(outputDir))
			for i, name := range j.Logs.Files() {
				j.Logs.Mounted[i] = slices.ContainsFunc(j.Container.Mounts, func(m Mount) bool { return m.Source == name })
			}
		}
	}
	if j.Container.GPU = gpus; gpus != nil {
		gpus.Prover = in.Self
		j.Container.Labels[LabelGPU] = gpus.Identity()
		if n := gpuCount(in.Init); n > len(gpus.Devices) {
			j.Notes = append(j.Notes, fmt.Sprintf("BOINC assigned %d GPUs but names only %d: the job gets no more", n, len(gpus.Devices)))
		}
	}
	j.Container.Env = environment(c, in, slotMount, int(math.Ceil(threads)), gpus)
	add(tooLong(c, j.Container.Env))
	if err := cmp.Or(errors.Join(mistakes...), noGPU); err != nil {
		return nil, err
	}
	planProxy(in, j)
	if standalone {
		if err := (Policy{}).check(c, true, false, at); err != nil {
			j.Notes = append(j.Notes, "on a volunteer's computer: "+err.Error())
		}
	}
	if in.NoHelper && user.Mode == UserBOINC && signed && !in.Policy.NoRoot {
		j.Notes = append(j.Notes, "this build of the wrapper can't hand back files of other users: the job runs as BOINC's user and not as its image's")
	}
	j.Notes = append(j.Notes, lessMemory(c, bounds)...)
	j.Notes = append(j.Notes, misunderstood(c, slotMount, j.Container.Env)...)
	j.Notes = append(j.Notes, partlyVolatile(c, j)...)
	for _, w := range c.Warnings {
		j.Warnings = append(j.Warnings, w.Error())
	}
	return j, nil
}

// imageLabels gives the labels of an image that the wrapper builds, from those of the container.
func imageLabels(container map[string]string) map[string]string {
	l := map[string]string{}
	for _, name := range []string{LabelProject, LabelApp, LabelDataDir} {
		if v := container[name]; v != "" {
			l[name] = v
		}
	}
	return l
}

// lessMemory gives a note if the job gets less memory than job.toml asks for.
func lessMemory(c *Config, bounds Limits) []string {
	asked := c.memory()
	if bounds.Memory == 0 || asked.bytes <= bounds.Memory {
		return nil
	}
	key := "memory"
	if c.Create.Memory > 0 {
		key = "create_args"
	}
	e := c.Errorf(key, "%d MB of memory are more than this job may have: it gets %d MB", asked.bytes>>20, bounds.Memory>>20)
	e.Hint = "the limit is from " + bounds.MemoryFrom
	return []string{e.Error()}
}

// misunderstood gives notes on keys that may not do what their author meant.
func misunderstood(c *Config, slotMount string, env []string) []string {
	var notes []string
	if c.Workdir != "" && c.Workdir != slotMount {
		e := c.Errorf("workdir", "is ignored")
		e.Hint = "it is used only without slot_dir_mount and copy lists"
		notes = append(notes, e.Error())
	}
	for _, name := range slices.Sorted(maps.Keys(c.Env)) {
		if isKey(name) {
			e := c.Errorf("env."+name, "sets a variable in the container")
			e.Hint = name + " is a key of its own; that one stands above the first [table]"
			notes = append(notes, e.Error())
		}
	}
	if word, variable := unexpanded(c, env); word != "" {
		e := c.Errorf("command", "%s: no shell reads it, and nothing expands %s", quote(word), variable)
		e.Hint = `write ["sh", "-c", "…"], unless the image's entry point is a shell`
		notes = append(notes, e.Error())
	}
	return notes
}

var variable = regexp.MustCompile(`\$(?:\{(\w+)\}|(\w+))`)

// unexpanded finds a word of the command that names a variable of the container which no shell expands; "" for none.
func unexpanded(c *Config, env []string) (word, name string) {
	if c.Entrypoint != nil || c.Create.Entrypoint != nil || slices.Contains(c.Command, "-c") {
		return "", ""
	}
	for _, word := range c.Command {
		for _, m := range variable.FindAllStringSubmatch(word, -1) {
			set := func(nv string) bool { return strings.HasPrefix(nv, m[1]+m[2]+"=") }
			if slices.ContainsFunc(env, set) || slices.ContainsFunc([]string{"ARGS=", "HOME=", "PATH="}, set) {
				return word, m[0]
			}
		}
	}
	return "", ""
}

// unpassed is a mistake if a signal can't reach the job: one whose output goes to a file has this program as its parent, and Go's
// runtime keeps these signals from it (runtime/sigtab_linux_generic.go: 34 is glibc's own, and ends a Go program).
func unpassed(c *Config, j *Job) error {
	if j.Logs.Files() == [2]string{} {
		return nil
	}
	for key, name := range map[string]string{"checkpoint.signal": j.Checkpoint.Signal, "stop_signal": j.Stop.Signal} {
		if slices.Contains([]string{"SIGRTMIN", "SIGPROF", "SIGURG", "SIGCHLD", "SIGPIPE"}, name) {
			if key == "stop_signal" && c.StopSignal == "" {
				key = "create_args"
			}
			return c.Errorf(key, "%s can't be passed on to a job with stdout_file or stderr_file: use another signal, such as SIGUSR1", name)
		}
	}
	return nil
}

func planStop(c *Config, cp Checkpoint) Stop {
	s := Stop{OnQuit: "pause", Signal: first(c.Create.StopSignal, c.StopSignal), Timeout: Seconds(defaultStopTimeout)}
	if c.StopTimeout > 0 {
		s.Timeout = Seconds(c.StopTimeout)
	}
	if t := c.Create.StopTimeout; t != nil {
		s.Timeout = Seconds(time.Duration(*t) * time.Second)
	}
	switch {
	case c.OnQuit == "stop":
		s.OnQuit = "stop"
	case c.OnQuit != "pause" && cp.Method != ByNobody:
		s.OnQuit = "auto"
	}
	return s
}

// planCheckpoint decides how checkpoints are noticed, requested and saved. slotMount is "" if the slot isn't mounted.
func planCheckpoint(in Input, j *Job, slotMount string) (Checkpoint, error) {
	c, cp := in.Config, in.Config.Checkpoint
	p := Checkpoint{Method: ByNobody, Period: Seconds(c.CheckpointPeriod)}
	switch {
	case cp.Method == ByNobody:
		return p, nil
	case cp.Method == ByEngine:
		if p.Method = ByEngine; j.Standalone {
			p.Method = ByNobody
			e := c.Errorf("checkpoint.method", "the engine makes no checkpoints of a job that is started by hand")
			e.Hint = "such a job is never resumed"
			j.Notes = append(j.Notes, e.Error())
		}
		for key, written := range map[string]bool{"checkpoint.file": cp.File != "", "checkpoint.signal": cp.Signal != "", "checkpoint.copy": len(cp.Copy) > 0} {
			if written {
				e := c.Errorf(key, "has no effect with method = \"engine\"")
				e.Hint = "the job's own checkpoints need method = \"app\""
				j.Notes = append(j.Notes, e.Error())
			}
		}
		slices.Sort(j.Notes)
		return p, nil
	case cp.File == "" && c.mistaken("checkpoint.file"):
		return p, nil
	case cp.File == "":
		key := ""
		switch {
		case cp.Signal != "":
			key = "checkpoint.signal"
		case len(cp.Copy) > 0:
			key = "checkpoint.copy"
		default:
			if !j.Standalone && cp.Method != ByApp {
				p.Method = IfAny
			}
			return p, nil
		}
		e := c.Errorf(key, "the wrapper can't tell when the job has checkpointed")
		e.Hint = "add checkpoint.file, a file that the job writes at each checkpoint"
		return p, e
	}
	p.Method, p.Signal = ByApp, cp.Signal
	if p.Signal != "" {
		p.Timeout = Seconds(cmp.Or(cp.Timeout, defaultAskTimeout))
	}
	switch rel, ok := strings.CutPrefix(cp.File, slotMount+"/"); {
	case path.IsAbs(cp.File) && slotMount != "" && ok:
		p.File = rel
	case path.IsAbs(cp.File):
		p.ContainerFile = cp.File
		if len(cp.Copy) == 0 && !c.mistaken("checkpoint.copy") && !j.Container.Mounted(cp.File) {
			e := c.Errorf("checkpoint.file", "%q is lost with the container", cp.File)
			e.Hint = "add checkpoint.copy, which saves what the job needs to go on"
			return p, e
		}
	case slotMount == "":
		e := c.Errorf("checkpoint.file", "the slot isn't mounted, so the job can't write %q there", cp.File)
		e.Hint = "write the file's path in the container"
		return p, e
	default:
		p.File = cp.File
	}
	for i, pair := range cp.Copy {
		for _, other := range cp.Copy[:i] {
			if pair.Dst == other.Dst || strings.HasPrefix(pair.Dst, other.Dst+"/") || strings.HasPrefix(other.Dst, pair.Dst+"/") {
				return p, c.Errorf("checkpoint.copy", "dst %q and dst %q overlap", other.Dst, pair.Dst)
			}
		}
		if !j.Standalone { // a standalone job is never resumed
			p.Copy = append(p.Copy, Copy{Root: filepath.Join(in.Dir, filepath.FromSlash(savedDir)), Src: pair.Src, Dst: pair.Dst})
		}
	}
	return p, nil
}

// ports are on loopback unless an address is written, so that other computers can't reach them.
func ports(c *Config) []Port {
	var list []Port
	for _, p := range slices.Concat(c.Ports, c.Create.Publish) {
		p.HostIP = first(p.HostIP, "127.0.0.1")
		list = append(list, p)
	}
	if c.WebGraphicsGuestPort > 0 {
		list = append(list, Port{HostIP: "127.0.0.1", Guest: c.WebGraphicsGuestPort, Protocol: "tcp"})
	}
	return list
}

// planFiles decides what the container sees of the slot and the project directory, and how files get in and out.
func planFiles(in Input, j *Job, slotMount string) error {
	planSlot(in, j, slotMount)
	mounts := planMounts(in, j, slotMount)
	links := map[string]Link{}
	for _, l := range j.Slot.Links {
		links[l.Name] = l
	}
	j.Progress = planProgress(in.Config, slotMount)
	return errors.Join(mounts, planCopies(in, j, links), planLogs(in, j, links))
}

// planSlot decides where the job's files are in the slot, and which links lead to its outputs.
func planSlot(in Input, j *Job, slotMount string) {
	j.Slot = Slot{Dir: in.Dir, Mount: slotMount}
	if in.Init != nil {
		j.Slot.Bound = bytesOf(in.Init.RscDiskBound)
	}
	if in.Init != nil {
		j.Slot.Result = in.Init.ResultName
	}
	if slotMount != "" {
		j.Slot.Payload = in.Dir
		if !j.Standalone {
			j.Slot.Payload = filepath.Join(in.Dir, filepath.FromSlash(payloadDir))
			j.Slot.Move = true
			j.Slot.Copied = []string{in.configFile(), in.Dockerfile}
			j.Slot.Kept = archives(in.Config)
		}
	}
	for _, l := range in.Links {
		l.Output = isOutput(in.Init, l.Target) || j.Standalone && l.Missing
		l.Optional = slices.Contains(in.Config.OptionalOutputs, l.Name)
		if l.Missing && !l.Output {
			j.Notes = append(j.Notes, fmt.Sprintf("%s is linked to %s, which isn't there and is not an output of this result: the names of its outputs begin with %s_, so the job can't write it",
				l.Name, filepath.Base(l.Target), j.Slot.Result))
		}
		j.Slot.Links = append(j.Slot.Links, l)
	}
}

func (in Input) configFile() string { return first(in.Config.File, "job.toml") }

// reads reports whether the wrapper itself reads a file of the slot. The job may not overwrite such files.
func (in Input) reads(name string) bool {
	name = path.Clean(name)
	return name == path.Clean(in.configFile()) || name == path.Clean(in.Dockerfile) || slices.Contains(archives(in.Config), name)
}

// planMounts mounts the slot, the project directory and what links lead to.
func planMounts(in Input, j *Job, slotMount string) error {
	c := in.Config
	mount := func(source, target string, readOnly bool) {
		j.Container.Mounts = append(j.Container.Mounts, Mount{source, target, readOnly})
	}
	if slotMount != "" {
		mount(j.Slot.Payload, slotMount, false)
	}
	if c.ProjectDirMount != "" && j.Signed {
		mount(in.ProjectDir, c.ProjectDirMount, !j.Standalone)
	}
	shown := map[string]bool{}
	for _, l := range j.Slot.Links {
		inProject := path.Join(c.ProjectDirMount, filepath.Base(l.Target))
		// An unsigned job sees only those files of the project directory that its slot links to. Others belong to other jobs.
		if c.ProjectDirMount != "" && !j.Signed && !l.Output && !l.Missing && !shown[l.Target] {
			shown[l.Target] = true
			mount(l.Target, inProject, true)
		}
		switch {
		case l.Output:
			if c.ProjectDirMount != "" && !j.Standalone {
				j.Slot.MakeOutputs = true
				mount(l.Target, inProject, false)
			}
		case slotMount != "" && asFiles(c) && !l.Missing && !slices.Contains(j.Slot.Copied, l.Name) && !slices.Contains(j.Slot.Kept, l.Name):
			mount(l.Target, path.Join(slotMount, l.Name), true)
		}
	}
	slices.SortStableFunc(j.Container.Mounts, func(a, b Mount) int { return strings.Compare(a.Target, b.Target) })
	for i, m := range j.Container.Mounts {
		if i > 0 && j.Container.Mounts[i-1].Target == m.Target {
			return c.Errorf("project_dir_mount", "%q is mounted twice", m.Target)
		}
	}
	return nil
}

// planCopies reads the copy lists.
func planCopies(in Input, j *Job, links map[string]Link) error {
	c := in.Config
	for _, p := range c.CopyToContainer {
		// The file is the target of a link, or it will have been moved into the payload, or it is in the slot.
		cp := Copy{Root: first(j.Slot.Payload, in.Dir), Src: p.Src, Dst: p.Dst}
		if l, ok := links[p.Src]; ok {
			cp.Root, cp.Src = filepath.Dir(l.Target), filepath.Base(l.Target)
		}
		j.CopyIn = append(j.CopyIn, cp)
	}
	for _, p := range c.CopyFromContainer {
		cp := Copy{Root: in.Dir, Src: p.Src, Dst: p.Dst, Optional: slices.Contains(c.OptionalOutputs, p.Dst)}
		l, linked := links[p.Dst]
		if !j.Standalone && (in.reads(p.Dst) || linked && !l.Output) {
			return c.Errorf("copy_from_container", "dst %q is an input of this job, not an output", p.Dst)
		}
		if linked {
			cp.Root, cp.Dst = filepath.Dir(l.Target), filepath.Base(l.Target)
		}
		j.CopyOut = append(j.CopyOut, cp)
	}
	return nil
}

// planLogs decides which files get the container's output.
func planLogs(in Input, j *Job, links map[string]Link) error {
	c := in.Config
	for _, f := range []struct {
		key, name string
		to        *string
	}{{"stdout_file", c.StdoutFile, &j.Logs.Stdout}, {"stderr_file", c.StderrFile, &j.Logs.Stderr}} {
		l, linked := links[f.name]
		switch {
		case f.name == "":
		case linked && l.Output:
			*f.to = l.Target
		case linked || in.reads(f.name):
			return c.Errorf(f.key, "%q is an input of this job, not an output", f.name)
		default:
			*f.to = filepath.Join(in.Dir, filepath.FromSlash(f.name))
		}
	}
	return nil
}

// planProgress decides which file holds the fraction done.
func planProgress(c *Config, slotMount string) Progress {
	f := first(c.FractionDoneFile, defaultFraction)
	switch rel, ok := strings.CutPrefix(f, slotMount+"/"); {
	case path.IsAbs(f) && slotMount != "" && ok:
		return Progress{File: rel}
	case path.IsAbs(f):
		return Progress{ContainerFile: f}
	case slotMount != "":
		return Progress{File: f}
	}
	return Progress{ContainerFile: path.Join(c.Create.Workdir, f)}
}

// asFiles reports whether the job sees linked inputs as the files that the links lead to.
func asFiles(c *Config) bool {
	if c.Links != "" {
		return c.Links == "files"
	}
	return c.ProjectDirMount == ""
}

func planImage(in Input, signed bool) (Image, error) {
	c := in.Config
	if err := imageNames(c, signed); err != nil {
		return Image{}, err
	}
	im := Image{LockDir: first(in.LockDir, in.ProjectDir), Collect: planCollect(in)}
	build := Source{
		Name:       first(FullName(c.ImageName), ImageName(in.Init, in.Dir, signed)),
		Dockerfile: in.Dockerfile,
		Build:      &c.Build,
		Keep:       c.ImageName != "",
		Fixed:      c.ImageName != "",
	}
	archive := func(name string) Source {
		host, linked := filepath.Join(in.Dir, filepath.FromSlash(name)), false
		for _, l := range in.Links {
			if l.Name == name {
				host, linked = l.Target, true
			}
		}
		return Source{Name: archiveTag(in.Init, host, linked, signed), Archive: host}
	}
	for _, choice := range append(slices.Clone(c.Images), ImageChoice{Archive: c.ImageArchive}, ImageChoice{Image: c.Image}) {
		switch {
		case choice.Archive != "":
			im.Sources = append(im.Sources, archive(choice.Archive))
		case choice.Image != "":
			im.Sources = append(im.Sources, Source{Name: FullName(choice.Image), Pull: true})
		}
	}
	switch {
	case len(im.Sources) > 0 && c.ImageName == "":
		return im, nil
	case in.HasDockerfile:
		im.Sources = append(im.Sources, build)
	case c.ImageName != "":
		im.Sources = append(im.Sources, Source{Name: FullName(c.ImageName), Pull: true, Keep: true})
	case c.mistaken("image", "image_archive", "images", "image_name"):
	default:
		return Image{}, &ConfigError{File: in.Dockerfile, Problem: "no such file in the slot, and job.toml names no image",
			Hint: "add a Dockerfile, or one of the keys image, image_archive, image_name"}
	}
	return im, nil
}

// archives names the image archives. The job doesn't see them: it doesn't need them, and they are large.
func archives(c *Config) []string {
	var names []string
	for _, choice := range append(slices.Clone(c.Images), ImageChoice{Archive: c.ImageArchive}) {
		if choice.Archive != "" {
			names = append(names, choice.Archive)
		}
	}
	return names
}

// imageNames refuses image names with which a job could replace the images of others.
func imageNames(c *Config, signed bool) error {
	if c.ImageName != "" && !signed {
		e := c.Errorf("image_name", "other jobs' images may have this name, and this file isn't signed")
		e.Hint = "leave the key out: the image is named after the workunit"
		return e
	}
	type named struct{ key, name string }
	keys := []named{{"image_name", c.ImageName}, {"image", c.Image}}
	for _, choice := range c.Images {
		keys = append(keys, named{"images", choice.Image})
	}
	for _, k := range keys {
		if k.name == "" {
			continue
		}
		if !signed {
			if _, err := Registry(k.name); err != nil {
				return c.Errorf(k.key, "%q: %s, and this file isn't signed", k.name, err)
			}
		}
		if OnlyOurs(k.name) {
			return c.Errorf(k.key, "%q: such names are reserved for the wrapper", k.name)
		}
	}
	return nil
}

// planUser decides which user the container runs as: the image's own, unless the job's files aren't signed and it writes
// files of the host, or the owner wants no root.
func planUser(in Input, signed, slotMounted bool, at hostPaths) (User, error) {
	c := in.Config
	boinc := User{Mode: UserBOINC, UID: in.Host.UID, GID: in.Host.GID}
	if in.Host.UID < 0 {
		boinc.UID, boinc.GID = nobody, nobody
	}
	u, key := c.User, "user"
	if c.Create.User != "" {
		u, key = c.Create.User, "create_args"
	}
	own := strconv.Itoa(boinc.UID)
	// An unsigned job may be the image's user in the payload, which only BOINC's user can reach from outside: what it
	// leaves there is handed back before it moves out. Its outputs in the project directory aren't.
	stays := !signed && in.Host.UID >= 0 && (slotMounted && u != "image" || c.ProjectDirMount != "")
	switch asked := u != "" && u != "auto" && u != own && u != own+":"+strconv.Itoa(boinc.GID); {
	case in.Policy.NoRoot && asked:
		e := in.Policy.refusal(c, []rule{{key: key, what: strconv.Quote(u), permit: permit{key: "root"}}}, at)
		e.refused = false // final: he has been asked
		return User{}, e
	case stays && asked && c.ProjectDirMount != "":
		e := c.Errorf(key, "%q: an unsigned job with project_dir_mount must run as BOINC's user", u)
		e.Hint = "leave the key out"
		return User{}, e
	case stays && asked:
		e := c.Errorf(key, "%q: an unsigned job that mounts files of the host must run as BOINC's user or its image's", u)
		e.Hint = "leave the key out, or copy files instead of mounting them"
		return User{}, e
	case in.Policy.NoRoot || stays:
		return boinc, nil
	case in.NoHelper && in.Host.UID > 0 && slotMounted && !asked && u != "image":
		return boinc, nil
	case u == "" || u == "auto" || u == "image":
		return User{Mode: UserImage}, nil
	default:
		return User{Mode: UserFixed, Fixed: u}, nil
	}
}

// nobody stands for BOINC's user where that has no number, as on Windows. It is the kernel's overflow user
// (Documentation/admin-guide/sysctl/fs.rst), who owns nothing.
const nobody = 65534

// binds gives mounts with the symlinks of their sources resolved. A symlink that changes after the check has no effect.
func binds(c *Config, at hostPaths) []Bind {
	list := slices.Concat(c.Mounts, c.Create.Volumes)
	for i, b := range list {
		list[i].Source = first(at.real(b.Source), b.Source)
	}
	return list
}

func network(c *Config, p Policy, signed bool) string {
	n := first(c.Create.Network, c.Network)
	switch {
	case p.Network == "none":
		return "none"
	case n != "":
		return n
	case signed:
		return "bridge"
	default:
		return "none"
	}
}

// missing says what the job lacks although it didn't ask to be without.
func missing(c *Config, p Policy, signed bool, im Image) (says []string) {
	const owners = "this computer's " + PolicyFile + " gives none "
	offline := network(c, p, signed) == "none" && first(c.Create.Network, c.Network) != "none"
	switch {
	case offline && p.Network == "none":
		says = append(says, "the job had no network: "+owners+"to any job")
	case offline:
		says = append(says, `the job had no network, because its files aren't signed: network = "bridge" in job.toml gives it one`)
	}
	if !signed {
		says = append(says, "the job had no capabilities, because its files aren't signed: its root had no more rights than other users")
	}
	builds := slices.ContainsFunc(im.Sources, func(s Source) bool { return s.Dockerfile != "" }) && c.Build.Network != "none"
	switch {
	case builds && p.Network == "none":
		says = append(says, "the build of the image had no network: "+owners+"to any job")
	case builds && p.BuildNetwork == "none" && !signed:
		says = append(says, "the build of the image had no network: "+owners+"to builds of files that aren't signed")
	}
	return says
}

// boundBuild limits a build to what the job may do. A build may have a network where the job has none, because
// Dockerfiles of workunits install packages.
func boundBuild(s *Source, p Policy, signed bool, bounds Limits) {
	args := *s.Build // the configuration's
	if p.Network == "none" || p.BuildNetwork == "none" && !signed {
		args.Network = "none"
	}
	s.Build, s.Limits = &args, bounds
	s.NoFetch = !signed || args.Network == "none"
}

// nthreads is the number of processors that the job may use: --nthreads of the command line, otherwise the client's
// budget. The command line may come from the workunit, so the budget limits it.
func nthreads(in Input) float64 {
	n := option(in.Args, "--nthreads")
	asked := 0.0
	if len(n) > 0 {
		asked = float64(n[len(n)-1])
	}
	switch d := in.Init; {
	case d != nil && asked > 0:
		return min(asked, max(1, math.Ceil(d.NCPUs)))
	case asked > 0:
		return asked
	case d != nil:
		return max(1, d.NCPUs) // GPU jobs have budgets below 1, and may use one
	default:
		return float64(max(in.Host.CPUs, 1))
	}
}

func labels(in Input) map[string]string {
	l := ContainerLabels(in.Init, in.Dir)
	if in.Proof != "" {
		l[LabelProof] = in.Proof
	}
	return l
}

// ContainerLabels are the labels that identify the job of a container. dir is the slot.
func ContainerLabels(d *boincapi.InitData, dir string) map[string]string {
	l := map[string]string{LabelWrapper: "1", LabelSlot: dir, LabelDataDir: dir}
	if d != nil {
		l[LabelDataDir] = d.BoincDir
		l[LabelProject] = projectName(d)
		l[LabelApp] = d.AppName
		l[LabelResult] = d.ResultName
		l[LabelWorkunit] = d.WUName
	}
	return l
}

func first(names ...string) string {
	for _, n := range names {
		if n != "" {
			return n
		}
	}
	return ""
}

package slot

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"boincdocker/boincapi"
	"boincdocker/docker_wrapper/internal/job"
)

const (
	// trickleTaken is a trickle-up message that was taken from the job and not yet given to the client.
	trickleTaken = job.WrapperDir + "/" + boincapi.TrickleUpFile

	maxTrickle = 256<<10 - 1 // bytes; MSG_FROM_HOST_BLOB_SIZE in BOINC's db/boinc_db_types.h
	maxVariety = 255         // bytes; DB_MSG_FROM_HOST there

	// patience is how many looks a trickle-up message that doesn't seem whole may stay as it is. The job
	// may be computing what comes next.
	patience = 30

	// grain is how far apart two changes of a directory may be and have the same time: on FAT.
	grain = 2 * time.Second

	maxLookedAt = 4096 // names of the payload that one look reads
	maxUnwanted = 100  // of the requests that it finds
)

// Mail carries between slot and payload what client and job tell each other in files of BOINC's names: the
// client sees those of the slot, the job those of the payload. It is for one goroutine at a time.
//
// The job's are read as all of the payload. A request that can't be met is an error, and taken away
// from the job all the same, so that it is met with once.
type Mail struct {
	m     *mover
	limit int64 // bytes of an output that may be copied; 0 for no limit

	quiet time.Time // of the payload's change after which there was nothing in it; zero when that isn't certain

	draft fs.FileInfo // the trickle-up message at the last look; nil for none
	still int         // looks since which it has not changed

	wanted, granted string // what was last carried of a sporadic app's two files
}

// OpenMail is for a slot whose files are moved into a payload. It does nothing yet, and the payload need not be
// there. No output of more than limit bytes is copied into the project directory; 0 means no limit.
func OpenMail(s job.Slot, limit int64) (*Mail, error) {
	m, err := newMover(s)
	if err != nil {
		return nil, err
	}
	return &Mail{m: m, limit: limit}, nil
}

// Close lets go of the slot.
func (b *Mail) Close() error { return b.m.root.Close() }

// Requests are what a job asks for.
type Requests struct {
	Trickle  bool     // there is a trickle-up message, whole or not
	Uploads  []string // logical names of outputs that it wants to be uploaded now
	Unwanted []string // files under such names that ask for nothing
}

// Requests looks what the job asks for. It reads the payload's top directory when that has changed, and of a large one
// the beginning: there the names that count are looked for one by one.
func (b *Mail) Requests() (Requests, error) {
	r, err := b.requests()
	if err != nil {
		return r, fmt.Errorf("look for the job's messages: %w", err)
	}
	if _, err := b.m.root.Lstat(trickleTaken); err == nil {
		r.Trickle = true
	}
	return r, nil
}

func (b *Mail) requests() (r Requests, err error) {
	fi, err := b.m.root.Lstat(payloadName)
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	} else if err != nil {
		return r, err
	}
	if !b.quiet.IsZero() && fi.ModTime().Equal(b.quiet) {
		return r, nil
	}
	names, err := b.names()
	if err != nil {
		return r, err
	}
	if len(names) > maxLookedAt {
		names = slices.DeleteFunc(names, b.counts)
		for _, name := range b.all() {
			if _, err := b.m.root.Lstat(path.Join(payloadName, name)); err == nil {
				names = append(names, name)
			}
		}
	}
	for _, name := range names {
		logical, asks := strings.CutPrefix(name, boincapi.UploadReqPrefix)
		switch {
		case name == boincapi.TrickleUpFile:
			r.Trickle = true
		case asks && b.counts(name):
			r.Uploads = append(r.Uploads, logical)
		case asks && len(r.Unwanted) < maxUnwanted:
			r.Unwanted = append(r.Unwanted, name)
		}
	}
	b.quiet = time.Time{}
	if !r.Trickle && len(r.Uploads)+len(r.Unwanted) == 0 && time.Since(fi.ModTime()) > grain {
		b.quiet = fi.ModTime()
	}
	slices.Sort(r.Uploads)
	return r, nil
}

// names lists the payload's top directory, up to one more than maxLookedAt.
func (b *Mail) names() ([]string, error) {
	f, err := b.m.root.Open(payloadName)
	if errors.Is(err, fs.ErrPermission) { // the job has closed it
		if err := b.m.enter(payloadName); err != nil {
			return nil, err
		}
		f, err = b.m.root.Open(payloadName)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	names, err := f.Readdirnames(maxLookedAt + 1)
	if err == io.EOF {
		err = nil
	}
	return names, err
}

// counts reports a name under which a job can ask for something.
func (b *Mail) counts(name string) bool {
	logical, asks := strings.CutPrefix(name, boincapi.UploadReqPrefix)
	return name == boincapi.TrickleUpFile || asks && b.m.links[logical].Output
}

// all lists the names that count.
func (b *Mail) all() []string {
	list := []string{boincapi.TrickleUpFile}
	for name, l := range b.m.links {
		if l.Output && !strings.Contains(name, "/") {
			list = append(list, boincapi.UploadReqPrefix+name)
		}
	}
	return list
}

// Refuse takes a request away from the job.
func (b *Mail) Refuse(name string) error {
	if err := b.m.enter(payloadName); err != nil {
		return err
	}
	return b.m.drop(path.Join(payloadName, name))
}

// Trickle takes the job's trickle-up message, when it is whole, and gives it again until TrickleSent. ok is
// false while there is none.
//
// It is whole when it has not changed since the last look and its text, at least a word, is complete as XML: BOINC's own
// library writes it at once, a script perhaps line by line. What stays incomplete for patience looks, or when the job is over,
// is taken as it is.
func (b *Mail) Trickle(over bool) (variety, text string, ok bool, err error) {
	if _, err := b.m.root.Lstat(trickleTaken); errors.Is(err, fs.ErrNotExist) {
		if whole, err := b.trickleWhole(over); !whole || err != nil {
			return "", "", false, err
		}
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.m.drop(trickleTaken))
		}
	}()
	// It is out of the job's reach now.
	if fi, err := b.m.root.Lstat(trickleTaken); err != nil {
		return "", "", false, err
	} else if !fi.Mode().IsRegular() {
		return "", "", false, errors.New("trickle-up message: it is no file")
	}
	f, err := b.m.root.Open(trickleTaken)
	if err != nil {
		return "", "", false, fmt.Errorf("trickle-up message: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxTrickle+1))
	if err == nil {
		variety, text, err = parseTrickle(data)
	}
	if err != nil {
		return "", "", false, fmt.Errorf("trickle-up message: %w", err)
	}
	return variety, text, true, nil
}

// TrickleSent forgets the message that Trickle gave.
func (b *Mail) TrickleSent() error { return b.m.root.Remove(trickleTaken) }

// trickleWhole moves a trickle-up message of the job out of its reach when it is whole, and reports whether it
// did.
func (b *Mail) trickleWhole(over bool) (bool, error) {
	inside := path.Join(payloadName, boincapi.TrickleUpFile)
	fi, err := b.m.root.Lstat(inside)
	if errors.Is(err, fs.ErrNotExist) {
		b.draft = nil
		return false, nil
	} else if err != nil {
		return false, err
	}
	before := b.draft
	b.draft = fi
	if before == nil || !os.SameFile(before, fi) || before.Size() != fi.Size() || !before.ModTime().Equal(fi.ModTime()) {
		b.still = 0
	} else {
		b.still++
	}
	if !over && fi.Mode().IsRegular() {
		if b.still == 0 {
			return false, nil
		}
		data, err := Payload{b.m.slot.Payload}.Read(boincapi.TrickleUpFile, maxTrickle+1)
		if err == nil {
			var text string
			if _, text, err = parseTrickle(data); err == nil && strings.TrimSpace(text) == "" {
				err = errors.New("no text")
			}
		}
		if err != nil && b.still < patience {
			return false, nil
		}
	}
	b.draft = nil
	if err := b.m.enter(payloadName); err != nil {
		return false, err
	}
	if fi.IsDir() {
		return false, errors.Join(errors.New("trickle-up message: it is no file"), b.m.drop(inside))
	}
	return true, b.m.root.Rename(inside, trickleTaken)
}

// parseTrickle reads a trickle-up message: what boinc_send_trickle_up in BOINC's api/boinc_api.cpp writes. It
// goes into a request to the project's server as it is, so that it must not reach beyond its place there.
func parseTrickle(data []byte) (variety, text string, err error) {
	if len(data) > maxTrickle {
		return "", "", fmt.Errorf("longer than %d bytes", maxTrickle)
	}
	rest, begins := strings.CutPrefix(strings.TrimLeft(string(data), " \t\r\n"), "<variety>")
	variety, text, ends := strings.Cut(rest, "</variety>")
	if !begins || !ends {
		return "", "", errors.New("it doesn't begin with <variety>NAME</variety>")
	}
	if variety == "" || len(variety) > maxVariety || strings.ContainsAny(variety, "<>&\r\n\x00") {
		return "", "", fmt.Errorf("its variety is no name of 1 to %d characters", maxVariety)
	}
	text = strings.TrimPrefix(strings.TrimPrefix(text, "\r"), "\n")
	if err := fitsElement(variety + text); err != nil {
		return "", "", err
	}
	return variety, text, nil
}

// fitsElement reports what keeps a text from standing in an XML element of the scheduler request. Servers look for the
// element's end as plain text (MSG_FROM_HOST_DESC::parse in BOINC's sched/sched_types.cpp): nothing may hide one.
func fitsElement(text string) error {
	const element = "msg_from_host"
	for _, s := range []string{element, "<!", "<?"} {
		if strings.Contains(text, s) {
			return fmt.Errorf("it has %q in it", s)
		}
	}
	d := xml.NewDecoder(strings.NewReader("<" + element + ">" + text + "</" + element + ">"))
	for {
		if _, err := d.Token(); err == io.EOF {
			return nil
		} else if err != nil {
			return fmt.Errorf("it is no XML: %w", err)
		}
	}
}

// BringOutput puts the output with this logical name where the client uploads it from. The job keeps its own, which
// at the end replaces it. Where the job writes to the project directory itself, it is there. When ctx ends, nothing was done.
func (b *Mail) BringOutput(ctx context.Context, logical string) error {
	if err := b.bring(ctx, logical); err != nil {
		return fmt.Errorf("upload of %s: %w", logical, err)
	}
	return nil
}

func (b *Mail) bring(ctx context.Context, logical string) error {
	l, ok := b.m.links[logical]
	if !ok || !l.Output {
		return errors.New("no output of this job has this name")
	}
	fi, err := b.m.root.Lstat(path.Join(payloadName, logical))
	if err == nil && fi.Mode().IsRegular() {
		f, fi, err := Payload{b.m.slot.Payload}.open(logical, os.O_RDONLY)
		if err != nil {
			return err
		}
		defer f.Close()
		data, err := b.m.pastLink(f)
		switch size := fi.Size() - data; {
		case err != nil:
			return err
		case data < 0: // still the link file
		case b.limit > 0 && size > b.limit:
			return fmt.Errorf("it has %d bytes, and the job may write %d", size, b.limit)
		default:
			if _, err := f.Seek(data, io.SeekStart); err != nil {
				return err
			}
			return writeWhole(l.Target, readerOf{ctx, io.LimitReader(f, size)})
		}
	}
	fi, err = os.Lstat(l.Target)
	if err != nil || !fi.Mode().IsRegular() || fi.Size() == 0 && fi.ModTime().Equal(untouched) {
		return errors.New("the job has not written it")
	}
	return nil
}

// readerOf ends with its context.
type readerOf struct {
	ctx context.Context
	io.Reader
}

func (r readerOf) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.Reader.Read(p)
}

// UploadAsked takes the request for an upload away from the job.
func (b *Mail) UploadAsked(logical string) error { return b.Refuse(boincapi.UploadReqPrefix + logical) }

// Deliver moves what the client has put into the slot for the job to the payload: trickle-down messages and how uploads
// ended. It returns their names.
func (b *Mail) Deliver() (names []string, err error) {
	if err := b.m.enter(payloadName); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("deliver the client's messages: %w", err)
	}
	entries, err := b.m.readDir(".")
	if err != nil {
		return nil, fmt.Errorf("deliver the client's messages: %w", err)
	}
	for _, e := range entries {
		if !forJob(e.Name()) || !e.Type().IsRegular() {
			continue
		}
		if err := b.deliver(e.Name()); err != nil {
			return names, fmt.Errorf("deliver %s: %w", e.Name(), err)
		}
		names = append(names, e.Name())
	}
	return names, nil
}

// forJob reports a name under which the client tells the job something.
func forJob(name string) bool {
	return strings.HasPrefix(name, boincapi.TrickleDownPrefix) || strings.HasPrefix(name, boincapi.UploadStatPrefix)
}

func (b *Mail) deliver(name string) error {
	inside := path.Join(payloadName, name)
	if fi, err := b.m.root.Lstat(name); err != nil {
		return err
	} else if err := ignorePermission(b.m.root.Chmod(name, fi.Mode().Perm()|0o444)); err != nil { // the container's user may be another
		return err
	}
	if fi, err := b.m.root.Lstat(inside); err == nil && fi.IsDir() {
		if err := b.m.drop(inside); err != nil {
			return err
		}
	}
	return b.m.root.Rename(name, inside)
}

// Sporadic carries the two files of a sporadic app: what the job wants goes to the slot, what the client grants to
// the payload. They are written in place: who reads them may keep them open.
func (b *Mail) Sporadic() error {
	if err := b.sporadic(); err != nil {
		return fmt.Errorf("carry the sporadic app's files: %w", err)
	}
	return nil
}

func (b *Mail) sporadic() error {
	const limit = 64 // bytes; a number is shorter
	payload := Payload{b.m.slot.Payload}
	if err := b.m.enter(payloadName); err != nil {
		return err
	}
	if b.granted == "" { // the first time
		if _, err := b.m.root.Lstat(path.Join(payloadName, boincapi.SporadicACFile)); errors.Is(err, fs.ErrNotExist) {
			if err := b.m.write(path.Join(payloadName, boincapi.SporadicACFile), strings.NewReader(""), 0o666); err != nil {
				return err
			}
		}
	}
	wanted := "0\n"
	if data, err := payload.Read(boincapi.SporadicACFile, limit); err == nil {
		wanted = oneNumber(data)
	}
	if wanted != b.wanted {
		f, err := b.m.root.OpenFile(boincapi.SporadicACFile, os.O_WRONLY|os.O_CREATE, 0o666)
		if err != nil {
			return err
		}
		if err := overwrite(f, wanted); err != nil {
			return err
		}
		b.wanted = wanted
	}

	data, err := Payload{b.m.slot.Dir}.Read(boincapi.SporadicCAFile, limit)
	if err != nil {
		return err
	}
	granted := oneNumber(data)
	if granted == b.granted {
		return nil
	}
	inside := path.Join(payloadName, boincapi.SporadicCAFile)
	fi, err := b.m.root.Lstat(inside)
	if err == nil && fi.Mode().IsRegular() {
		f, _, err := payload.open(boincapi.SporadicCAFile, os.O_WRONLY)
		if err == nil {
			err = overwrite(f, granted)
		}
		if err == nil {
			b.granted = granted
			return nil
		}
	}
	if err := b.m.drop(inside); err != nil { // whatever the job has put there
		return err
	}
	if err := b.m.write(inside, strings.NewReader(granted), 0o644); err != nil {
		return err
	}
	b.granted = granted
	return nil
}

// oneNumber is the line that a file's first line stands for: 0 when it is no number.
func oneNumber(data []byte) string {
	line, _, _ := strings.Cut(string(data), "\n")
	n, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		return "0\n"
	}
	return strconv.Itoa(n) + "\n"
}

// overwrite leaves no moment at which the file is empty, and closes it.
func overwrite(f *os.File, text string) error {
	_, err := f.WriteAt([]byte(text), 0)
	if err == nil {
		err = f.Truncate(int64(len(text)))
	}
	return errors.Join(err, f.Close())
}

// Last is for when the job is over: what it still asks for needs no answer, and nothing half-copied
// stays.
func (b *Mail) Last() error {
	r, err := b.Requests()
	if err != nil {
		return err
	}
	var errs []error
	for _, logical := range r.Uploads {
		errs = append(errs, b.UploadAsked(logical))
	}
	for _, l := range b.m.slot.Links {
		if l.Output {
			if err := os.Remove(l.Target + partSuffix); !errors.Is(err, fs.ErrNotExist) {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}

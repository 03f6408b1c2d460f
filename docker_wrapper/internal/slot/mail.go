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
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"boincdocker/boincapi"
	"boincdocker/docker_wrapper/internal/host"
	"boincdocker/docker_wrapper/internal/job"
)

const (
	// trickleTaken is a trickle-up message that was taken from the job and that the client has not yet received.
	trickleTaken = job.WrapperDir + "/" + boincapi.TrickleUpFile

	maxTrickle = 256<<10 - 1 // bytes; MSG_FROM_HOST_BLOB_SIZE in BOINC's db/boinc_db_types.h
	maxVariety = 255         // bytes; DB_MSG_FROM_HOST there

	// patience is how often an incomplete trickle-up message may be found unchanged before it is taken as it is. The
	// job may still be computing the rest.
	patience = 30

	// grain is the resolution of a directory's modification time on FAT. Two changes within it may have the same time.
	grain = 2 * time.Second

	maxLookedAt = 4096 // names of the payload that Requests reads at a time
	maxUnwanted = 100  // names in Requests.Unwanted
)

// Mail carries the messages that the client and the job exchange in files with BOINC's names. The client reads and
// writes those in the slot, the job those in the payload. Only one goroutine may use it at a time.
//
// The job's files are untrusted, like everything in the payload. A request that can't be fulfilled is an error. It is
// removed from the payload all the same, so that it is reported once.
type Mail struct {
	m     *mover
	limit int64 // bytes of an output that may be copied; 0 for no limit

	quiet time.Time // modification time at which the payload had no request; zero if unknown

	draft fs.FileInfo // the trickle-up message when Trickle last looked; nil for none
	still int         // how often Trickle has found it unchanged since

	wanted, granted string // the text last carried of a sporadic app's two files
}

// OpenMail opens the mail of a slot whose files are moved into a payload, which need not exist yet. No output of more
// than limit bytes is copied into the project directory; 0 means no limit.
func OpenMail(s job.Slot, limit int64) (*Mail, error) {
	m, err := newMover(s)
	if err != nil {
		return nil, err
	}
	return &Mail{m: m, limit: limit}, nil
}

// Close closes the slot directory.
func (b *Mail) Close() error { return b.m.root.Close() }

// Requests are a job's requests to the client.
type Requests struct {
	Trickle  bool     // there is a trickle-up message, complete or not
	Uploads  []string // logical names of outputs to upload now
	Unwanted []string // file names that look like upload requests but name no output
}

// Requests returns the job's requests. It reads the payload's top directory if that has changed. Of a directory with
// more than 4096 names it reads the first ones and looks up each valid request by name.
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

// names lists the payload's top directory, at most maxLookedAt+1 names.
func (b *Mail) names() ([]string, error) {
	f, err := b.m.root.Open(payloadName)
	if errors.Is(err, fs.ErrPermission) { // the job has taken away our permissions
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

// counts reports whether a file of this name is a valid request.
func (b *Mail) counts(name string) bool {
	logical, asks := strings.CutPrefix(name, boincapi.UploadReqPrefix)
	return name == boincapi.TrickleUpFile || asks && b.m.links[logical].Output
}

// all lists the names of all valid requests.
func (b *Mail) all() []string {
	list := []string{boincapi.TrickleUpFile}
	for name, l := range b.m.links {
		if l.Output && !strings.Contains(name, "/") {
			list = append(list, boincapi.UploadReqPrefix+name)
		}
	}
	return list
}

// Refuse removes a request from the payload.
func (b *Mail) Refuse(name string) error {
	if err := b.m.enter(payloadName); err != nil {
		return err
	}
	return b.m.drop(path.Join(payloadName, name))
}

// Trickle takes the job's trickle-up message out of the payload once it is complete. It returns the same message until
// TrickleSent is called. ok is false while there is none.
//
// The error wraps fs.ErrPermission while another user's message can't be read.
//
// A message is complete when it has not changed since the last call and its text is not empty and is valid XML. BOINC's
// own library writes it in one piece, a script perhaps line by line. An incomplete message is taken as it is after 30
// calls without a change, or when the job is over.
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
	// The job can't change the message from here on.
	if fi, err := b.m.root.Lstat(trickleTaken); err != nil {
		return "", "", false, err
	} else if !fi.Mode().IsRegular() {
		return "", "", false, errors.New("trickle-up message: it is not a regular file")
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

// TrickleSent removes the message that Trickle returned.
func (b *Mail) TrickleSent() error { return b.m.root.Remove(trickleTaken) }

// trickleWhole moves the job's trickle-up message out of the payload if it is complete. It reports whether it did.
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
		if errors.Is(err, fs.ErrPermission) {
			return false, fmt.Errorf("trickle-up message: %w", err)
		}
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
		return false, errors.Join(errors.New("trickle-up message: it is not a regular file"), b.m.drop(inside))
	}
	return true, b.m.root.Rename(inside, trickleTaken)
}

// parseTrickle reads a trickle-up message. The client copies it unchanged into a request to the project's server, so the
// message must not be able to end its element there.
//
// Format: boinc_send_trickle_up in BOINC's api/boinc_api.cpp.
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
		return "", "", fmt.Errorf("its variety must have 1 to %d bytes and none of < > &, line breaks and NUL", maxVariety)
	}
	text = strings.TrimPrefix(strings.TrimPrefix(text, "\r"), "\n")
	if err := fitsElement(variety + text); err != nil {
		return "", "", err
	}
	return variety, text, nil
}

// fitsElement returns an error if a text can't be the content of an XML element of the scheduler request. Servers look
// for the end tag as plain text (MSG_FROM_HOST_DESC::parse in BOINC's sched/sched_types.cpp). So the text must not
// contain one, not even in a comment or CDATA section.
func fitsElement(text string) error {
	const element = "msg_from_host"
	for _, s := range []string{element, "<!", "<?"} {
		if strings.Contains(text, s) {
			return fmt.Errorf("it contains %q", s)
		}
	}
	d := xml.NewDecoder(strings.NewReader("<" + element + ">" + text + "</" + element + ">"))
	for {
		if _, err := d.Token(); err == io.EOF {
			return nil
		} else if err != nil {
			return fmt.Errorf("it is not valid XML: %w", err)
		}
	}
}

// BringOutput copies the output with this logical name to its physical name in the project directory, from where the
// client uploads it. The job keeps its own file, which replaces the copy at the end. If the job writes to the project
// directory itself, there is nothing to copy. If ctx ends first, the physical file is unchanged.
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
		case data < 0: // the link file, unchanged
		case b.limit > 0 && size > b.limit:
			return fmt.Errorf("it has %d bytes, more than the job's limit of %d", size, b.limit)
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

// readerOf is a reader that fails when its context has ended.
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

// UploadAsked removes the job's request to upload an output.
func (b *Mail) UploadAsked(logical string) error { return b.Refuse(boincapi.UploadReqPrefix + logical) }

// Deliver moves the client's messages to the job from the slot to the payload: trickle-down messages and upload results.
// It returns their names.
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

// forJob reports whether a file of this name is a message from the client to the job.
func forJob(name string) bool {
	return strings.HasPrefix(name, boincapi.TrickleDownPrefix) || strings.HasPrefix(name, boincapi.UploadStatPrefix)
}

func (b *Mail) deliver(name string) error {
	inside := path.Join(payloadName, name)
	if fi, err := b.m.root.Lstat(name); err != nil {
		return err
	} else if err := ignorePermission(b.m.root.Chmod(name, fi.Mode().Perm()|0o444)); err != nil { // the container may run as another user
		return err
	}
	if fi, err := b.m.root.Lstat(inside); err == nil && fi.IsDir() {
		if err := b.m.drop(inside); err != nil {
			return err
		}
	}
	return b.m.root.Rename(name, inside)
}

// Sporadic copies the two files of a sporadic app: the job's wish to the slot, the client's answer to the payload. They
// are written in place, because their readers may keep them open.
func (b *Mail) Sporadic() error {
	if err := b.sporadic(); err != nil {
		return fmt.Errorf("carry the sporadic app's files: %w", err)
	}
	return nil
}

func (b *Mail) sporadic() error {
	const limit = 64 // bytes, more than any number has
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
	} else if errors.Is(err, fs.ErrPermission) {
		return err
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
	if err := b.m.drop(inside); err != nil { // the job may have put anything there
		return err
	}
	if err := b.m.write(inside, strings.NewReader(granted), 0o644); err != nil {
		return err
	}
	b.granted = granted
	return nil
}

// oneNumber returns the number in a file's first line, as a line; "0" if that is not a number.
func oneNumber(data []byte) string {
	line, _, _ := strings.Cut(string(data), "\n")
	n, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		return "0\n"
	}
	return strconv.Itoa(n) + "\n"
}

// overwrite replaces a file's text and closes it. A reader never finds the file empty.
func overwrite(f *os.File, text string) error {
	_, err := f.WriteAt([]byte(text), 0)
	if err == nil {
		err = f.Truncate(int64(len(text)))
	}
	return errors.Join(err, f.Close())
}

// Last removes the job's unanswered upload requests and incomplete copies of outputs, when the job is over.
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
			if err := os.Remove(filepath.Join(filepath.Dir(l.Target), host.Part(filepath.Base(l.Target)))); !errors.Is(err, fs.ErrNotExist) {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}

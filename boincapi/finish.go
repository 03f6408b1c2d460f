package boincapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Lines that the client's buffers hold; a longer one would run over into the next field.
const (
	maxFinishMessage = 1022
	maxReason        = 253
	maxDelay         = 86400 // s; the client takes a longer delay for a mistake
)

// noticeGrace is how long the end waits for the client to take trickle-up and graphics messages, of
// which it may have to take one before the next has room. Also the grace of boinc_finish.
const noticeGrace = 2 * time.Second

// Finish ends the job with exit code 0 to 255 and a message for the client's log ("" for none): it
// delivers the last status with fraction 1, leaves boinc_finish_called and closes the app. The caller
// exits with the same code. It waits for the client only if a trickle or upload notice has no room, up
// to 2 s.
//
// Called twice, or after TemporaryExit, it returns ErrFinished. If the disk is full the error wraps
// syscall.ENOSPC, the file is absent, not half written, and the app still open.
//
// Format: boinc_finish_message in BOINC's api/boinc_api.cpp.
func (a *App) Finish(code int, message string) error { return a.finish(code, message, false) }

// FinishNotice is Finish with a message that the client shows to the user.
func (a *App) FinishNotice(code int, message string) error { return a.finish(code, message, true) }

func (a *App) finish(code int, message string, notice bool) error {
	if code < 0 || code > 255 {
		return fmt.Errorf("finish with exit code %d: want 0 to 255", code)
	}
	text := strconv.Itoa(code) + "\n"
	if message = oneLine(message, maxFinishMessage); message != "" {
		text += message + "\n"
		if notice {
			text += "notice"
		}
		text += "\n"
	}
	return a.end(FinishFileName, text, func(r *Report) { r.Fraction, r.WantNetwork = 1, false })
}

// TemporaryExit asks the client to start the app again after delay, which is rounded up to seconds and
// cut to one day. The reason, one line of up to 253 bytes, is shown in the task's status; with notice
// it becomes a notice too. Without a reason the client would ignore the delay: ErrNoReason. The app is
// closed; the caller exits with code 0. The client gives up a job after 100 of these without a
// checkpoint.
//
// An app that could not get the slot's lock may end this way, too.
//
// Format: boinc_temporary_exit in BOINC's api/boinc_api.cpp.
func (a *App) TemporaryExit(delay time.Duration, reason string, notice bool) error {
	reason = oneLine(reason, maxReason)
	if reason == "" {
		return ErrNoReason
	}
	seconds := int64((max(delay, 0) + time.Second - 1) / time.Second)
	text := fmt.Sprintf("%d\n%s\n", min(seconds, maxDelay), reason)
	if notice {
		text += "notice\n"
	}
	return a.end(TemporaryExitFile, text, func(*Report) {})
}

// end says the last word to the client, writes the file that explains the exit, and closes the app.
func (a *App) end(file, text string, last func(*Report)) error {
	a.ending.Lock()
	defer a.ending.Unlock()
	if a.ended {
		return ErrFinished
	}
	a.changeReport(last)
	a.Flush(context.Background())
	a.awaitNotices(noticeGrace)
	if err := writeWhole(filepath.Join(a.dir, file), text); err != nil {
		return err
	}
	a.ended = true
	return a.Close()
}

// FinishFile returns what an earlier run left in dir's boinc_finish_called. The client does not remove
// the file, so an app that finds it was ended between writing it and exiting, and should exit with that
// code at once. Found is false if there is none or its first line is no exit code.
func FinishFile(dir string) (code int, message string, found bool) {
	path := filepath.Join(dir, FinishFileName)
	if info, err := os.Lstat(path); err != nil || !info.Mode().IsRegular() {
		return 0, "", false
	}
	f, err := os.Open(path)
	if err != nil {
		return 0, "", false
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, 4096))
	if err != nil {
		return 0, "", false
	}
	lines := strings.Split(string(b), "\n")
	code, err = strconv.Atoi(strings.TrimSpace(lines[0]))
	if err != nil {
		return 0, "", false
	}
	if len(lines) > 1 {
		message = strings.TrimSpace(lines[1])
	}
	return code, message, true
}

// writeWhole leaves a file that has all of text, or none. The client may run as another user, so
// the file is readable to all.
func writeWhole(path, text string) error {
	part := path + ".part"
	if err := os.Remove(part); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(part, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o664)
	if err != nil {
		return err
	}
	return complete(f, part, path, text)
}

// complete writes text to part, which is open as f, and renames it to path. If it cannot, neither is left.
func complete(f *os.File, part, path, text string) error {
	_, err := f.WriteString(text)
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(part, path)
	}
	if err != nil {
		os.Remove(part)
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

package boincapi

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// SendTrickleUp sends a message to the project with the next scheduler request. The text must be fit
// to stand in an XML element; control characters become "?". ErrBusy while the client has not taken the previous one, usually for a
// second. Nothing happens in standalone mode.
//
// Format: boinc_send_trickle_up in BOINC's api/boinc_api.cpp.
func (a *App) SendTrickleUp(variety, text string) error {
	if variety == "" || strings.ContainsAny(variety, "<>&\r\n\t") || withoutControls(variety) != variety {
		return fmt.Errorf("send trickle-up: variety %q has characters that XML cannot hold, or none", variety)
	}
	if a.standalone {
		return nil
	}
	a.trickling.Lock()
	defer a.trickling.Unlock()
	a.mu.Lock()
	waiting := a.trickleUp
	a.mu.Unlock()
	path := filepath.Join(a.dir, TrickleUpFile)
	if _, err := os.Lstat(path); err == nil || waiting {
		return ErrBusy
	}
	if err := writeWhole(path, "<variety>"+variety+"</variety>\n"+withoutControls(text)); err != nil {
		return fmt.Errorf("send trickle-up: %w", err)
	}
	a.mu.Lock()
	a.trickleUp = true
	a.mu.Unlock()
	return nil
}

// ReceiveTrickleDown returns the oldest message of the project that lies in the slot, which the caller
// removes when done. There may be one at the start, before any Status.TrickleDown.
func (a *App) ReceiveTrickleDown() (path string, ok bool, err error) {
	entries, err := os.ReadDir(a.dir)
	if err != nil {
		return "", false, fmt.Errorf("look for trickle-down messages: %w", err)
	}
	for _, e := range entries { // by name, that is by time
		if name := e.Name(); strings.HasPrefix(name, TrickleDownPrefix) && e.Type().IsRegular() {
			return filepath.Join(a.dir, name), true, nil
		}
	}
	return "", false, nil
}

// UploadFile asks the client to upload the output file with this logical name now, while the job goes
// on. Nothing happens in standalone mode.
//
// Format: boinc_upload_file in BOINC's api/boinc_api.cpp.
func (a *App) UploadFile(logical string) error {
	path, err := a.companion(UploadReqPrefix, logical)
	if err != nil || a.standalone {
		return err
	}
	if err := writeWhole(path, ""); err != nil {
		return fmt.Errorf("request upload of %s: %w", logical, err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.upload = true
	return nil
}

// UploadStatus says how the upload of UploadFile ended: 1 well, negative with one of BOINC's error
// numbers. Known is false while it has not ended.
func (a *App) UploadStatus(logical string) (status int, known bool, err error) {
	path, err := a.companion(UploadStatPrefix, logical)
	if err != nil {
		return 0, false, err
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, channelSize))
	if err != nil {
		return 0, false, err
	}
	x, known := numberIn(string(b), "status")
	return int(x), known, nil
}

// companion is the path of the file that goes with a logical name.
func (a *App) companion(prefix, logical string) (string, error) {
	if logical == "" || logical != filepath.Base(logical) || strings.ContainsAny(logical, "\x00/") {
		return "", fmt.Errorf("%q is not the logical name of a file", logical)
	}
	return filepath.Join(a.dir, prefix+logical), nil
}

// Sporadic apps talk to the outside through two files: "ac" has what the app wants, written by others,
// "ca" has what the client grants, written by us. A line with a number each.
//
// Format: boinc_sporadic_dir in BOINC's api/boinc_api.cpp.
type sporadicFiles struct{ ac, ca *os.File }

// caDontCompute is the client's state before it has said anything.
const caDontCompute = 1

func openSporadic(dir string) (sporadicFiles, error) {
	ac, err := os.OpenFile(filepath.Join(dir, SporadicACFile), os.O_RDONLY|os.O_CREATE, 0o666)
	if err != nil {
		return sporadicFiles{}, err
	}
	ca, err := os.OpenFile(filepath.Join(dir, SporadicCAFile), os.O_WRONLY|os.O_CREATE, 0o666)
	if err != nil {
		ac.Close()
		return sporadicFiles{}, err
	}
	return sporadicFiles{ac, ca}, nil
}

// exchange is the goroutine that keeps the two files up to date, once a second.
func (a *App) exchange(files sporadicFiles) {
	defer files.ac.Close()
	defer files.ca.Close()
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for granted := 0; ; {
		a.mu.Lock()
		ca := a.state.SporadicCA
		a.mu.Unlock()
		if ca == 0 {
			ca = caDontCompute
		}
		if ca != granted && files.grant(ca) == nil {
			granted = ca
		}
		if ac, err := files.wanted(); err == nil {
			a.mu.Lock()
			a.unsent = a.unsent || ac != a.sporadicAC
			a.sporadicAC = ac
			a.mu.Unlock()
		}
		select {
		case <-a.stop:
			return
		case <-t.C:
		}
	}
}

func (f sporadicFiles) grant(ca int) error {
	_, err := f.ca.WriteAt([]byte(strconv.Itoa(ca)+"\n"), 0)
	return err
}

// wanted is 0 for a file that says nothing.
func (f sporadicFiles) wanted() (int, error) {
	b := make([]byte, 256)
	n, err := f.ac.ReadAt(b, 0)
	if err != nil && err != io.EOF {
		return 0, err
	}
	line, _, _ := strings.Cut(string(b[:n]), "\n")
	ac, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		return 0, nil
	}
	return ac, nil
}
